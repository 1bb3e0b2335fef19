package main

import (
	"bytes"
	"encoding/json"
	"runtime"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

const predicateType = "https://slsa.dev/provenance/v1"

// subject is an artifact that the provenance is about, and its SHA-256.
type subject struct{ name, digest string }

// provenanceFile is the statement's.
func (r *release) provenanceFile() string { return "provenance_" + r.version + ".intoto.json" }

// statement says, in the form of in-toto, what the release was made from and how (SLSA's
// provenance v1). It has no times: two builds of a commit say the same.
func (r *release) statement() ([]byte, error) {
	external, err := structpb.NewStruct(map[string]any{
		"version": r.version, "registry": r.registry, "source": r.url, "downloads": r.downloads,
	})
	if err != nil {
		return nil, err
	}
	internal, err := structpb.NewStruct(map[string]any{"go": runtime.Version()})
	if err != nil {
		return nil, err
	}
	p := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType:          r.url + "#make-release-v1",
			ExternalParameters: external, InternalParameters: internal,
			ResolvedDependencies: []*intoto.ResourceDescriptor{{
				Uri: "git+" + r.url + "@refs/tags/" + r.version, Digest: map[string]string{"gitCommit": r.source.Revision},
			}},
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: r.builder}},
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	predicate := &structpb.Struct{}
	text, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(text, predicate); err != nil {
		return nil, err
	}
	s := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateType, Predicate: predicate}
	for _, subject := range r.subjects {
		s.Subject = append(s.Subject, &intoto.ResourceDescriptor{Name: subject.name, Digest: map[string]string{"sha256": subject.digest}})
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if text, err = protojson.Marshal(s); err != nil {
		return nil, err
	}
	return stable(text)
}

// stable is a JSON text without the spaces by which protojson's output differs from program
// to program.
func stable(text []byte) ([]byte, error) {
	var dense, out bytes.Buffer
	if err := json.Compact(&dense, text); err != nil {
		return nil, err
	}
	err := json.Indent(&out, dense.Bytes(), "", "  ")
	return append(out.Bytes(), '\n'), err
}
