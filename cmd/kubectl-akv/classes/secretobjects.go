package classes

// SecretObject is a Kubernetes Secret that the CSI driver makes of files of the volume.
type SecretObject struct {
	SecretName string `yaml:"secretName"`
	Data       []struct {
		ObjectName string `yaml:"objectName"` // path of a file
		Key        string `yaml:"key"`
	} `yaml:"data"`
}

// SecretObjects returns those of the class, none if they are not what the API server accepts.
func (c *Class) SecretObjects() []SecretObject {
	var objects []SecretObject
	if _, node := lookup(c.spec, "secretObjects"); node == nil || node.Decode(&objects) != nil {
		return nil
	}
	return objects
}
