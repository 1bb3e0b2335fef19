package render

// For tests.
const (
	MaxRounds  = maxRounds
	MaxPFXText = maxPFXText
)

// PFXErrors are all the causes that a PFX can be refused for.
var PFXErrors = []error{errTooLong, errNotBase64, errNotPFX, errPassword, errAlgorithm, errRounds}
