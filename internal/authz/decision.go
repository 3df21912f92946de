package authz

import (
	"strconv"

	"github.com/claviger/claviger/internal/policy"
)

// An Outcome says how a decision came about. The zero Outcome refuses.
type Outcome uint8

// The outcomes.
const (
	ImplicitDeny Outcome = iota // nothing allowed it
	ExplicitDeny                // a Deny statement applied
	Allowed
)

func (o Outcome) String() string {
	return [...]string{"ImplicitDeny", "ExplicitDeny", "Allowed"}[o]
}

// A Layer is a type of policy.
type Layer uint8

// The layers.
const (
	NoLayer Layer = iota
	ResourceLayer
	IdentityLayer
	BoundaryLayer
	SessionLayer
	SCPLayer
	RCPLayer
	EndpointLayer
	GrantLayer
)

// layerNames are AWS's words for the layers, as refusals use them (errors.md §3.1).
var layerNames = [...]string{
	NoLayer:       "",
	ResourceLayer: "resource-based policy",
	IdentityLayer: "identity-based policy",
	BoundaryLayer: "permissions boundary",
	SessionLayer:  "session policy",
	SCPLayer:      "service control policy",
	RCPLayer:      "resource control policy",
	EndpointLayer: "VPC endpoint policy",
	GrantLayer:    "grant",
}

func (l Layer) String() string { return layerNames[l] }

// By names one statement of one policy.
type By struct {
	Policy *policy.Policy
	Ref    policy.Ref
}

// String names the statement by its policy and its Sid or number. It is empty
// if there is none.
func (b By) String() string {
	s := b.Policy.Statement(b.Ref)
	switch {
	case s == nil:
		return ""
	case s.Sid != "":
		return b.Policy.Name + "#" + s.Sid
	default:
		return b.Policy.Name + "#" + strconv.Itoa(int(b.Ref))
	}
}

// A Decision is the outcome and its reason. The zero Decision refuses.
type Decision struct {
	Outcome Outcome
	Layer   Layer // of By
	By      By    // the statement that denied or allowed; none for the root user, who needs no identity policy
	Via     By    // the key policy's statement that let an identity policy in, or allowed what something else refuses
	Missing Layer // for an implicit deny: the layer without an Allow
	Root    bool  // the caller acts with the powers of the root user
}

// Allowed reports whether the request may proceed.
func (d *Decision) Allowed() bool { return d.Outcome == Allowed }

// Refusal is AWS's text for a refused request (errors.md §3.1). Decisions that
// allow have none.
func (d *Decision) Refusal(req *Request) string {
	text := "User: " + req.Caller.Shown() + " is not authorized to perform: " + req.Action.String() + " on resource: " + req.Resource
	switch {
	case d.Outcome == ExplicitDeny:
		return text + " with an explicit deny in " + article(d.Layer) + d.Layer.String()
	case d.Missing != NoLayer:
		return text + " because no " + d.Missing.String() + " allows the " + req.Action.String() + " action"
	default:
		return text
	}
}

// Shown is the caller as refusals name it: a service by its name, anybody else
// by ARN.
func (c *Caller) Shown() string {
	if c.Kind == policy.Service {
		return c.Service
	}
	return c.ARN
}

func article(l Layer) string {
	if l == IdentityLayer {
		return "an "
	}
	return "a "
}
