package cluster

import (
	"encoding/json"
	"fmt"
)

// Kind says what a document is about. It is the value of its kind: field and,
// in the plural, the folder in etcd under which it lives.
type Kind string

// The kinds of documents that an operator applies.
const (
	KindNetwork Kind = "network"
	KindImage   Kind = "image"
	KindProfile Kind = "profile"
	KindGroup   Kind = "group"
	KindHost    Kind = "host"
	KindSite    Kind = "site"
	KindSecret  Kind = "secret"
	KindPolicy  Kind = "policy"

	KindMatchbox Kind = "matchbox" // what came by matchbox's API
)

// Kinds lists every kind in the order in which one leans on another.
var Kinds = []Kind{KindNetwork, KindImage, KindProfile, KindGroup, KindHost, KindPolicy, KindSecret, KindSite, KindMatchbox}

// Plural returns the word for many, which is also the folder in etcd.
func (k Kind) Plural() string {
	switch k {
	case KindPolicy:
		return "policies"
	case KindMatchbox:
		return "matchboxes"
	}
	return string(k) + "s"
}

// Ref names one document.
type Ref struct {
	Kind Kind
	Name string
}

// String returns "host web1".
func (r Ref) String() string { return string(r.Kind) + " " + r.Name }

// Document is one applied thing. Documents are values: once in a Snapshot they
// are never changed.
type Document interface {
	Ref() Ref
}

// Meta is what every document begins with.
type Meta struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

// New returns a pointer to an empty document of kind k, for a decoder to fill.
func New(k Kind) (Document, error) {
	switch k {
	case KindNetwork:
		return new(Network), nil
	case KindImage:
		return new(Image), nil
	case KindProfile:
		return new(Profile), nil
	case KindGroup:
		return new(Group), nil
	case KindHost:
		return new(Host), nil
	case KindSite:
		return new(Site), nil
	case KindSecret:
		return new(Secret), nil
	case KindPolicy:
		return new(Policy), nil
	case KindMatchbox:
		return new(Matchbox), nil
	}
	return nil, fmt.Errorf("%q is not a kind of document; the kinds are %v", k, Kinds)
}

// Ref implements Document.
func (d *Network) Ref() Ref { return Ref{KindNetwork, d.Name} }

// Ref implements Document.
func (d *Image) Ref() Ref { return Ref{KindImage, d.Name} }

// Ref implements Document.
func (d *Profile) Ref() Ref { return Ref{KindProfile, d.Name} }

// Ref implements Document.
func (d *Group) Ref() Ref { return Ref{KindGroup, d.Name} }

// Ref implements Document.
func (d *Host) Ref() Ref { return Ref{KindHost, d.Name} }

// Ref implements Document.
func (d *Site) Ref() Ref { return Ref{KindSite, d.Name} }

// Ref implements Document.
func (d *Secret) Ref() Ref { return Ref{KindSecret, d.Name} }

// Ref implements Document.
func (d *Policy) Ref() Ref { return Ref{KindPolicy, d.Name} }

// Ref implements Document.
func (d *Matchbox) Ref() Ref { return Ref{KindMatchbox, d.Name} }

// MarshalDocument returns d as one flat JSON object, kind first: what etcd
// holds, and what the API carries.
func MarshalDocument(d Document) ([]byte, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", d.Ref(), err)
	}
	head := fmt.Sprintf(`{"kind":%q,`, d.Ref().Kind)
	return append([]byte(head), body[1:]...), nil
}

// UnmarshalDocument reads what MarshalDocument wrote. Unknown fields are kept
// out silently, so that an older server can read what a newer one wrote.
func UnmarshalDocument(b []byte) (Document, error) {
	var head struct {
		Kind Kind `json:"kind"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	d, err := New(head.Kind)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("decode %s: %w", head.Kind, err)
	}
	return d, nil
}
