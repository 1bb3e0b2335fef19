package document

import (
	"errors"
	"strconv"
)

// missing is a value that a path did not find. It is empty for default, if, with, and, or and
// not; elsewhere it is an error with this text.
type missing string

// isTrue is the truth of text/template: false are 0, false, and what is empty.
func isTrue(value any) bool {
	switch value := value.(type) {
	case string:
		return value != ""
	case int:
		return value != 0
	case bool:
		return value
	case []Match:
		return len(value) > 0
	case Match:
		return true
	}
	return false // missing
}

// printed is a value as text.
func printed(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case int:
		return strconv.Itoa(value), nil
	case bool:
		return strconv.FormatBool(value), nil
	case missing:
		return "", errors.New(string(value))
	}
	return "", errors.New("a result of find is not text: use its .Name or .Value")
}
