package bundle

import (
	"bytes"
	"strings"

	"akv-csi-provider/provider/tree"
)

// dotenv writes NAME=value lines. There is no standard for them; this is what Docker Compose,
// systemd's EnvironmentFile, Node's dotenv and a shell that sources the file read alike:
//
//   - a value of letters, digits and _ . / : @ % + , = - without quotes, which also
//     `docker run --env-file` reads, since it takes quotes for a part of the value;
//   - any other value in single quotes, where none of them changes anything;
//   - a value that contains a single quote, or ends with a backslash, which Compose takes for an
//     escape of the quote that follows, in double quotes. If there is a double quote, backslash,
//     dollar sign or backtick in it as well, it has a backslash before each, without which a shell
//     would execute it. Node's dotenv does not remove these, and can misread the lines that follow;
//     Compose leaves the one before a backtick.
func dotenv(entries []tree.Member) ([]byte, error) {
	names := make(map[string]bool, len(entries))
	var out bytes.Buffer
	for _, e := range entries {
		name := variable(e.Key)
		if names[name] {
			return nil, ErrVariable
		}
		names[name] = true
		value := string(tree.Content(e.Value))
		if strings.ContainsRune(value, 0) {
			return nil, ErrNUL
		}
		out.WriteString(name + "=" + dotenvValue(value) + "\n")
	}
	return out.Bytes(), nil
}

// variable is a name as that of an environment variable (POSIX, section 8.1).
func variable(name string) string {
	upper := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	if upper[0] >= '0' && upper[0] <= '9' {
		return "_" + upper
	}
	return upper
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

func dotenvValue(value string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_./:@%+,=-", r)
	}
	switch {
	case !strings.ContainsFunc(value, special):
		return value
	case !strings.Contains(value, "'") && !strings.HasSuffix(value, `\`):
		return "'" + value + "'"
	}
	return `"` + escapes.Replace(value) + `"`
}
