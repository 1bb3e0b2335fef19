package preview

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// Result is what a pod would get. It has no content of a file.
type Result struct {
	Namespace      string `json:"namespace"`
	Class          string `json:"class"`
	ServiceAccount string `json:"serviceAccount,omitempty"`
	SignedInAs     string `json:"signedInAs,omitempty"`

	Files    []File   `json:"files"`
	LeftOut  []string `json:"leftOut,omitempty"` // optional objects that the vault does not have
	Warnings []string `json:"warnings,omitempty"`
	Notes    []string `json:"notes,omitempty"` // about what could not be checked

	// Error is the line that the pod's event would have, and Reason the word at its end.
	Error  string `json:"error,omitempty"`
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// File is a file of the volume.
type File struct {
	Path    string   `json:"path"`
	Mode    string   `json:"mode"`
	Size    int      `json:"size"`
	Objects []Object `json:"objects"` // that it is made of
	// Expires is the earliest date at which one of the objects expires.
	Expires *time.Time `json:"expires,omitempty"`
}

// Object is a version of an object in the vault.
type Object struct {
	Type        string     `json:"type"`
	Name        string     `json:"name"`
	Version     string     `json:"version,omitempty"`
	ContentType string     `json:"contentType,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
}

// run makes the mount.
func (m *mount) run(ctx context.Context) *Result {
	_, err := m.server.Mount(ctx, m.in)
	r := &Result{
		Namespace: m.class.Namespace, Class: m.class.Name, ServiceAccount: m.account, SignedInAs: m.as,
		Files: []File{}, Notes: m.notes,
	}
	if m.req != nil {
		r.warn(m.req.Warnings)
	}
	if err != nil {
		r.Error = status.Convert(err).Message()
		if i := strings.LastIndexByte(r.Error, '['); i >= 0 {
			r.Reason = strings.TrimSuffix(r.Error[i+1:], "]")
		}
		r.Hint = m.hint()
		return r
	}
	for _, f := range m.volume.Files {
		r.Files = append(r.Files, newFile(f, m.origins[f.Path]))
	}
	r.LeftOut = m.volume.Absent
	r.warn(m.volume.ClassWarnings)
	r.Warnings = append(r.Warnings, m.volume.ValueWarnings...)
	return r
}

func (r *Result) warn(warnings []request.Warning) {
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.Field+" "+w.Cause)
	}
}

func newFile(f render.File, of []provider.Origin) File {
	out := File{Path: f.Path, Mode: fmt.Sprintf("%04o", f.Mode.Perm()), Size: len(f.Content), Objects: []Object{}}
	for _, o := range of {
		one := Object{Type: string(o.Type), Name: o.Name, Version: o.Version, ContentType: o.ContentType, Expires: o.Expires}
		out.Objects = append(out.Objects, one)
		if o.Expires != nil && (out.Expires == nil || o.Expires.Before(*out.Expires)) {
			out.Expires = o.Expires
		}
	}
	return out
}

// fromHere are the failures that the place of this machine in the network can be the cause of.
var fromHere = []fault.Reason{fault.Timeout, fault.ServiceUnavailable, fault.VaultNotFound, fault.TLSUntrusted, fault.ProxyRefused}

// hint says what of the failure may be due to previewing it, and not to the class.
func (m *mount) hint() string {
	var hints []string
	switch {
	case fault.Is(m.err, fault.VaultFirewall):
		hints = append(hints, "the address in this line is that of your machine, not of a node: if the firewall lets the nodes through, or only they reach the private endpoint,"+
			" the pod may get its files all the same; run this from the nodes' network")
	case fault.Is(m.err, fromHere...):
		hints = append(hints, "the request left from your machine: the nodes may have another way to the host, such as a private endpoint with its DNS zone, a proxy or a CA;"+
			" run this from the nodes' network to be sure")
	case fault.Is(m.err, fault.IssuerUnreachable, fault.TokenInvalid):
		hints = append(hints, "Entra itself reads the keys of the cluster's issuer, so pods fail alike: an issuer that is private to your network does not work")
	case fault.Is(m.err, fault.NoIdentity) && m.me == nil:
		hints = append(hints, "if the pod's volume has a nodePublishSecretRef, name its Secret with --node-publish-secret; or use --as-me")
	}
	if m.user != nil && fault.Is(m.err, fault.AccessDenied, fault.WrongTenant, fault.TokenRejected, fault.VaultFirewall) {
		hints = append(hints, fmt.Sprintf("this was read as %s, and not as the identity of the class, of which the rights may differ; in az keyvault set-policy, a user is --object-id instead of --spn", m.user))
	}
	return strings.Join(hints, ". ")
}

// unique returns the different texts in order.
func unique(texts []string) []string {
	var out []string
	for _, text := range texts {
		if text != "" && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
