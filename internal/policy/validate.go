package policy

import (
	"errors"
	"slices"
	"strings"
)

// MaxKeyPolicy is the greatest length of a key policy in bytes (policy-document.md §1).
const MaxKeyPolicy = 32768

// What Validate finds wrong. Callers tell them apart with errors.Is.
var (
	ErrGrammar             = errors.New("policy: syntax errors in policy")
	ErrPrincipal           = errors.New("policy: a statement has no valid principal")
	ErrForbiddenKey        = errors.New("policy: a condition key that key policies may not use")
	ErrForAllValuesTag     = errors.New("policy: ForAllValues with aws:RequestTag")
	ErrForAllValuesContext = errors.New("policy: ForAllValues with kms:EncryptionContext")
)

// A GrammarError is ErrGrammar with IAM's words for it.
type GrammarError struct{ Msg string }

func (e *GrammarError) Error() string { return "policy: " + e.Msg }

// Is makes every GrammarError an ErrGrammar.
func (e *GrammarError) Is(target error) bool { return target == ErrGrammar }

// Validate checks what a document of the given kind must hold beyond being
// parsed (policy-document.md §§3, 4 and its erratum). Whether principals exist
// is not its business.
func Validate(doc *Document, kind Kind) error {
	if doc.Version != "" && doc.Version != "2012-10-17" && doc.Version != "2008-10-17" {
		return &GrammarError{"The policy must contain a valid version string"}
	}
	if len(doc.Statements) == 0 {
		return ErrGrammar
	}
	sids := map[string]bool{}
	for i := range doc.Statements {
		s := &doc.Statements[i]
		if err := validateStatement(s, kind); err != nil {
			return err
		}
		if kind == Identity && s.Sid != "" && sids[s.Sid] {
			return &GrammarError{"Statement IDs (SID) in a single policy must be unique."}
		}
		sids[s.Sid] = true
	}
	return nil
}

func validateStatement(s *Statement, kind Kind) error {
	switch {
	case s.Action == nil || len(s.Action.Items) == 0:
		return &GrammarError{"Policy statement must contain actions."}
	case kind != Trust && (s.Resource == nil || len(s.Resource.Items) == 0):
		return &GrammarError{"Policy statement must contain resources."}
	case kind == Trust && s.Resource != nil:
		return &GrammarError{"Has prohibited field Resource"}
	case !kind.hasPrincipal() && s.Principal != nil:
		return &GrammarError{"Policy document should not specify a principal."}
	case kind == Identity && s.HasSid && !plainSid(s.Sid):
		return &GrammarError{"Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"}
	case !validActions(s.Action, kind):
		return &GrammarError{"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."}
	case kind == Trust && !assumes(s.Action):
		return &GrammarError{"AssumeRole policy may only specify STS AssumeRole actions."}
	case kind == Identity && !validResources(s.Resource):
		return &GrammarError{"Resource must be in ARN format or \"*\"."}
	case kind.hasPrincipal() && !s.Principal.names():
		return ErrPrincipal
	case kind == SCP && s.Effect == Allow && !everything(s):
		return &GrammarError{"An Allow statement of a service control policy must have the resource *."}
	case kind == RCP && !denial(s):
		return &GrammarError{"A resource control policy denies everybody actions of services that support it."}
	}
	for i := range s.Conditions {
		if err := validateCondition(&s.Conditions[i], kind); err != nil {
			return err
		}
	}
	return nil
}

// everything reports whether the statement's Resource is "*" and nothing else (AUTH-5.5).
func everything(s *Statement) bool {
	return !s.NotResource && len(s.Resource.Items) == 1 && s.Resource.Items[0].Text == "*"
}

// rcpServices are the services that resource control policies can be about.
var rcpServices = []string{"s3", "sts", "kms", "sqs", "secretsmanager", "cognito-identity", "cognito-idp", "logs", "dynamodb", "ecr", "aoss"}

// denial reports whether the statement is what a resource control policy may
// hold: a Deny for everybody, of named actions of services that support it
// (AUTH-5.6).
func denial(s *Statement) bool {
	everybody := s.Principal.Everyone || len(s.Principal.Entries) == 1 && s.Principal.Entries[0].Type == "AWS" &&
		len(s.Principal.Entries[0].Values.Items) == 1 && s.Principal.Entries[0].Values.Items[0].Text == "*"
	if s.Effect != Deny || s.NotPrincipal || s.NotAction || !everybody {
		return false
	}
	for _, a := range s.Action.Items {
		if service, _, _ := strings.Cut(a.Text, ":"); !slices.Contains(rcpServices, strings.ToLower(service)) {
			return false
		}
	}
	return true
}

// names reports whether the element names anybody, and nobody with an empty list.
func (p *Principals) names() bool {
	if p == nil || !p.Everyone && len(p.Entries) == 0 {
		return false
	}
	for _, e := range p.Entries {
		if len(e.Values.Items) == 0 {
			return false
		}
	}
	return true
}

func plainSid(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// validActions requires service:name, or "*". Key policies tolerate anything.
func validActions(l *List, kind Kind) bool {
	if kind == Key {
		return true
	}
	for _, a := range l.Items {
		service, name, ok := strings.Cut(a.Text, ":")
		if a.Text != "*" && (!ok || service == "" || name == "") {
			return false
		}
	}
	return true
}

// assumes reports whether all actions are of STS.
func assumes(l *List) bool {
	for _, a := range l.Items {
		if !strings.HasPrefix(strings.ToLower(a.Text), "sts:") {
			return false
		}
	}
	return true
}

// validResources requires "*" or something that begins like an ARN.
func validResources(l *List) bool {
	for _, r := range l.Items {
		if r.Text != "*" && !strings.HasPrefix(r.Text, "arn:") && !strings.HasPrefix(r.Text, "*") {
			return false
		}
	}
	return true
}

func validateCondition(c *Condition, kind Kind) error {
	op, ok := parseOperator(c.Operator)
	if !ok {
		return ErrGrammar
	}
	key := KeyNamed(c.Key)
	if op.prefix == forAllValues && key.ID == KeyKMSEncryptionContext {
		return ErrForAllValuesContext
	}
	if op.prefix == forAllValues && key.ID == KeyRequestTag && kind == Key {
		return ErrForAllValuesTag
	}
	if kind == Key && (key.ID == KeyResourceTag || key.ID == KeyKMSResourceTag || key.ID == KeyKMSResourceAliases) {
		return ErrForbiddenKey
	}
	return nil
}
