package classes

import "go.yaml.in/yaml/v3"

// SecretObject is a Kubernetes Secret that the CSI driver makes of files of the volume.
type SecretObject struct {
	SecretName string      `yaml:"secretName"`
	Data       []SecretKey `yaml:"data"`
}

// SecretKey is a key of a Secret, with the place in the file of what it is made of.
type SecretKey struct {
	ObjectName   string // path of a file
	Key          string
	Line, Column int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (k *SecretKey) UnmarshalYAML(node *yaml.Node) error {
	var plain struct {
		ObjectName string `yaml:"objectName"`
		Key        string `yaml:"key"`
	}
	if err := node.Decode(&plain); err != nil {
		return err
	}
	at := node
	if _, value := lookup(node, "objectName"); value != nil {
		at = value
	}
	*k = SecretKey{plain.ObjectName, plain.Key, at.Line, at.Column}
	return nil
}

// SecretObjects returns those of the class, none if they are not what the API server accepts.
func (c *Class) SecretObjects() []SecretObject {
	var objects []SecretObject
	if _, node := lookup(c.spec, "secretObjects"); node == nil || node.Decode(&objects) != nil {
		return nil
	}
	for _, o := range objects {
		for i := range o.Data {
			at := c.document.in(position{o.Data[i].Line, o.Data[i].Column})
			o.Data[i].Line, o.Data[i].Column = at.line, at.column
		}
	}
	return objects
}
