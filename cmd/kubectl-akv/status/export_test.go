package status

// Repeat is for tests.
var Repeat = repeat
