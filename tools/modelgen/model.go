package main

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"maps"
	"slices"
)

// A Model is the part of an API model that the generator reads.
type Model struct {
	Metadata struct {
		ServiceID    string `json:"serviceId"`
		Protocol     string `json:"protocol"`
		TargetPrefix string `json:"targetPrefix"`
		XMLNamespace string `json:"xmlNamespace"`
		APIVersion   string `json:"apiVersion"`
	} `json:"metadata"`
	Operations map[string]Operation `json:"operations"`
	Shapes     map[string]Shape     `json:"shapes"`
}

// An Operation names its shapes.
type Operation struct {
	Input  *Ref `json:"input"`
	Output *Ref `json:"output"`
	HTTP   struct {
		Method     string `json:"method"`
		RequestURI string `json:"requestUri"`
	} `json:"http"`
}

// A Ref points at a shape.
type Ref struct {
	Shape        string `json:"shape"`
	Location     string `json:"location"`
	LocationName string `json:"locationName"`
}

// A Shape is a type and its constraints. Members keep the model's order.
type Shape struct {
	Type      string         `json:"type"`
	Members   jsontext.Value `json:"members"`
	Required  []string       `json:"required"`
	Member    *Ref           `json:"member"`
	Key       *Ref           `json:"key"`
	Value     *Ref           `json:"value"`
	Min       *float64       `json:"min"`
	Max       *float64       `json:"max"`
	Pattern   string         `json:"pattern"`
	Enum      []string       `json:"enum"`
	Sensitive bool           `json:"sensitive"`
	Exception bool           `json:"exception"`
	Timestamp string         `json:"timestampFormat"`
	Fault     bool           `json:"fault"`
	Error     struct {
		Code   string `json:"code"`
		Status int    `json:"httpStatusCode"`
	} `json:"error"`
}

// A Member is one named part of a structure.
type Member struct {
	Name     string
	Shape    string
	Required bool
	Location string // of a REST request: querystring or uri; empty for the body
}

// members lists a structure's members in the order of the model.
func (s Shape) members() []Member {
	var out []Member
	if s.Members == nil {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(s.Members))
	must(d.ReadToken()) // {
	for d.PeekKind() != '}' {
		name := must(d.ReadToken()).String()
		var ref Ref
		check(json.UnmarshalDecode(d, &ref))
		out = append(out, Member{name, ref.Shape, slices.Contains(s.Required, name), ref.Location})
	}
	return out
}

// reachable returns the names of the structures that requests, or responses,
// are made of, sorted.
func (m *Model) reachable(pick func(Operation) *Ref) []string {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		s := m.Shapes[name]
		if seen[name] {
			return
		}
		seen[name] = true
		for _, mem := range s.members() {
			walk(mem.Shape)
		}
		for _, r := range []*Ref{s.Member, s.Key, s.Value} {
			if r != nil {
				walk(r.Shape)
			}
		}
	}
	for _, op := range m.Operations {
		if r := pick(op); r != nil {
			walk(r.Shape)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
