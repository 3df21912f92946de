package policy

// A Kind says where a document is attached, which decides its grammar.
type Kind uint8

// The kinds of policy documents.
const (
	Identity Kind = iota // user, group and role policies, managed policies, boundaries, session policies
	Key                  // key policies
	Trust                // role trust policies: about the role itself, so without Resource
	SCP                  // service control policies
	RCP                  // resource control policies
	Endpoint             // VPC endpoint policies
)

// hasPrincipal reports whether statements of the kind name principals.
func (k Kind) hasPrincipal() bool { return k == Key || k == Trust || k == RCP || k == Endpoint }

// EachPrincipal calls f with every entry of every Principal and NotPrincipal
// element, which f may change, and the entry's type; it stops at an error.
func (d *Document) EachPrincipal(f func(kind string, entry *Item) error) error {
	for i := range d.Statements {
		if d.Statements[i].Principal == nil {
			continue
		}
		for _, e := range d.Statements[i].Principal.Entries {
			for j := range e.Values.Items {
				if err := f(e.Type, &e.Values.Items[j]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// An Effect is what a statement does when it applies.
type Effect uint8

// The two effects. The zero Effect denies.
const (
	Deny Effect = iota
	Allow
)

func (e Effect) String() string {
	if e == Allow {
		return "Allow"
	}
	return "Deny"
}

// A Document is a parsed policy: what was written, in order, with positions.
type Document struct {
	Version    string // "" when absent, which means 2008-10-17 (AUTH-10.1)
	ID         string
	HasID      bool
	Statements []Statement
}

// A Statement is one statement as written. Absent lists are nil.
type Statement struct {
	Sid          string
	HasSid       bool
	Effect       Effect
	Principal    *Principals
	NotPrincipal bool // Principal holds a NotPrincipal element
	Action       *List
	NotAction    bool
	Resource     *List
	NotResource  bool
	Conditions   []Condition
	HasCondition bool
	Pos          Position
}

// Principals is a Principal or NotPrincipal element.
type Principals struct {
	Everyone bool // the whole element is "*"
	Entries  []PrincipalEntry
	Pos      Position
}

// A PrincipalEntry is one member of a Principal object.
type PrincipalEntry struct {
	Type   string // AWS, Service, Federated or CanonicalUser
	Values List
}

// A Condition is one operator with one key.
type Condition struct {
	Operator string
	Key      string
	Values   List
	Pos      Position
}

// A List is a value where the grammar takes one or several.
type List struct {
	Items []Item
	Array bool // written as an array
}

// An Item is a scalar; numbers and booleans keep their spelling.
type Item struct {
	Text   string
	Quoted bool // written as a string
	Pos    Position
}

// A Position is a place in a document. Line and Column count from 1, Column in bytes.
type Position struct {
	Line, Column int
}
