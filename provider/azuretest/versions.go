package azuretest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

// collection is one of the three kinds of objects in a vault, by its path.
type collection string

const (
	secrets      collection = "secrets"
	keys         collection = "keys"
	certificates collection = "certificates"
)

// singular is the word for one object in texts and codes of Key Vault.
func (c collection) singular() string { return strings.TrimSuffix(string(c), "s") }

// version is one version of an object, with its answers ready to send.
type version struct {
	id       string
	created  time.Time
	sequence int // order of being set, for versions created in the same second
	disabled bool
	body     json.RawMessage // answer of GET
	item     json.RawMessage // entry in a list of versions
	summary  json.RawMessage // entry in a list of objects: without version
}

// put adds a version, or replaces the one with the same ID in its place.
func (v *Vault) put(c collection, name string, one *version) {
	name = strings.ToLower(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sequence++
	one.sequence = v.sequence
	for i, old := range v.objects[c][name] {
		if old.id == one.id {
			v.objects[c][name][i] = one
			return
		}
	}
	v.objects[c][name] = append(v.objects[c][name], one)
}

// find returns the version with that ID, or for "" the latest: the newest, of equally new ones the
// one set last.
func (v *Vault) find(c collection, name, id string) *version {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var found *version
	for _, one := range v.objects[c][strings.ToLower(name)] {
		if id != "" {
			if strings.EqualFold(one.id, id) {
				return one
			}
			continue
		}
		if found == nil || one.created.After(found.created) ||
			one.created.Equal(found.created) && one.sequence > found.sequence {
			found = one
		}
	}
	return found
}

// items returns the entries of a list: the versions of an object, or with no name the objects of the
// collection. Key Vault orders versions by their ID, which says nothing about their age, and calls
// an object that does not exist one without versions.
func (v *Vault) items(c collection, name string) []json.RawMessage {
	var items []json.RawMessage
	if name == "" {
		for _, n := range v.names(c) {
			if one := v.find(c, n, ""); one != nil {
				items = append(items, one.summary)
			}
		}
		return items
	}
	v.mu.RLock()
	all := append([]*version(nil), v.objects[c][strings.ToLower(name)]...)
	v.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool { return all[i].id < all[j].id })
	for _, one := range all {
		items = append(items, one.item)
	}
	return items
}

func (v *Vault) names(c collection) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var names []string
	for name := range v.objects[c] {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

const defaultPage = 25 // also the most a client may request

// page answers a list request. The link to the next page names port 443, as Key Vault's do: its host
// is then not literally the vault's.
func (v *Vault) page(x *exchange, items []json.RawMessage) reply {
	query := x.URL.Query()
	size := defaultPage
	if text := query.Get("maxresults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > defaultPage {
			return v.fail(x, http.StatusBadRequest, "BadParameter", "invalid maxresults", "")
		}
		size = n
	}
	start, ok := 0, true
	if token := query.Get("$skiptoken"); token != "" {
		start, ok = readSkipToken(token)
	}
	if !ok || start > len(items) {
		return v.fail(x, http.StatusBadRequest, "BadParameter", "The skip token is invalid.", "")
	}
	end := min(start+size, len(items))
	list := struct {
		Value    []json.RawMessage `json:"value"`
		NextLink *string           `json:"nextLink"`
	}{Value: append([]json.RawMessage{}, items[start:end]...)}
	if end < len(items) {
		link := "https://" + v.host + ":443" + x.URL.Path + "?api-version=" + query.Get("api-version") +
			"&$skiptoken=" + skipToken(x.URL.Path, end)
		if text := query.Get("maxresults"); text != "" {
			link += "&maxresults=" + text
		}
		list.NextLink = &link
	}
	return jsonReply(http.StatusOK, v.header(x), list)
}

// skipToken makes the token of a page in the form of Key Vault's, which clients must not look into: 150
// to 400 characters.
func skipToken(path string, start int) string {
	marker := fmt.Sprintf("%06d!%-64.192s!000028!9999-12-31T23:59:59.9999999Z!", start, strings.ToUpper(path))
	return base64.RawURLEncoding.EncodeToString(mustJSON(map[string]any{
		"NextMarker": fmt.Sprintf("2!%d!%s", len(marker), base64.StdEncoding.EncodeToString([]byte(marker))), "TargetLocation": 0,
	}))
}

func readSkipToken(token string) (start int, ok bool) {
	var body struct{ NextMarker string }
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(text, &body) != nil {
		return 0, false
	}
	parts := strings.SplitN(body.NextMarker, "!", 3)
	marker, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(marker) < 6 {
		return 0, false
	}
	start, err = strconv.Atoi(string(marker[:6]))
	return start, err == nil && start >= 0
}
