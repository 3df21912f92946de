// Package findings checks policies as IAM Access Analyzer's ValidatePolicy does: with its
// codes and severities, where each applies to policies about KMS (policy-document.md §8). It
// is pure.
package findings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/policy"
)

// A Severity is how much a finding matters.
type Severity string

// The severities.
const (
	Error           Severity = "ERROR"
	SecurityWarning Severity = "SECURITY_WARNING"
	Warning         Severity = "WARNING"
	Suggestion      Severity = "SUGGESTION"
)

// A Finding is one thing that is wrong with a policy, or could be better.
type Finding struct {
	Severity   Severity
	Code       string
	Details    string
	Path       []Step
	Start, End Position
}

// A Step is a part of the way to a place in a document: a member or its name, or an element.
type Step struct {
	Member string `json:",omitzero"`
	Name   string `json:",omitzero"` // the name of the member is meant, not its value
	Index  *int   `json:",omitzero"`
}

// LearnMore is the page of the IAM User Guide that explains the finding.
func (f *Finding) LearnMore() string {
	kind := map[Severity]string{Error: "error", SecurityWarning: "security-warning", Warning: "general-warning", Suggestion: "suggestion"}[f.Severity]
	return "https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html#access-analyzer-reference-policy-checks-" +
		kind + "-" + strings.ReplaceAll(strings.ToLower(f.Code), "_", "-")
}

// String is the finding in a line, without the place.
func (f *Finding) String() string { return fmt.Sprintf("%s %s: %s", f.Severity, f.Code, f.Details) }

// severities are those of all codes that there are here.
var severities = func() map[string]Severity {
	out := map[string]Severity{}
	for severity, codes := range map[Severity]string{
		Error: `DATA_TYPE_MISMATCH DUPLICATE_KEYS_WITH_DIFFERENT_CASE INVALID_ACTION INVALID_ARN_ACCOUNT INVALID_ARN_PREFIX INVALID_ARN_REGION INVALID_ARN_RESOURCE
			INVALID_ARN_SERVICE_CASE INVALID_CONDITION_DATA_TYPE INVALID_CONDITION_KEY_FORMAT INVALID_CONDITION_MULTIPLE_BOOLEAN INVALID_CONDITION_OPERATOR INVALID_EFFECT
			INVALID_GLOBAL_CONDITION_KEY INVALID_PARTITION INVALID_POLICY_ELEMENT INVALID_PRINCIPAL_FORMAT INVALID_PRINCIPAL_KEY INVALID_REGION INVALID_SERVICE
			INVALID_SERVICE_CONDITION_KEY INVALID_SERVICE_IN_ACTION INVALID_VARIABLE_FOR_OPERATOR INVALID_VERSION JSON_SYNTAX_ERROR MISSING_ACTION MISSING_EFFECT
			MISSING_PRINCIPAL MISSING_RESOURCE MISSING_STATEMENT MISSING_ARN_FIELD MISSING_ARN_REGION MISSING_ARN_ACCOUNT MISSING_QUALIFIER NULL_WITH_IF_EXISTS
			UNIQUE_SIDS_REQUIRED UNSUPPORTED_ELEMENT_COMBINATION UNSUPPORTED_GLOBAL_CONDITION_KEY UNSUPPORTED_PRINCIPAL UNSUPPORTED_SID UNSUPPORTED_WILDCARD_IN_PRINCIPAL
			MISSING_BRACE_IN_VARIABLE MISSING_QUOTE_IN_VARIABLE UNSUPPORTED_SPACE_IN_VARIABLE EMPTY_VARIABLE VARIABLE_UNSUPPORTED_IN_ELEMENT
			VARIABLE_UNSUPPORTED_IN_VERSION VARIABLE_USAGE_TOO_PERMISSIVE WILDCARD_USAGE_TOO_PERMISSIVE PRIVATE_IP_ADDRESS PRIVATE_NOT_IP_ADDRESS TYPE_MISMATCH_IP_RANGE
			INVALID_SERVICE_PRINCIPAL_FORMAT MISSING_TAG_KEY_IN_CONDITION INVALID_VPC_FORMAT INVALID_VPCE_FORMAT FEDERATED_PRINCIPAL_NOT_SUPPORTED
			UNSUPPORTED_ACTION_FOR_CONDITION_KEY UNSUPPORTED_CONDITION_KEY_FOR_SERVICE_PRINCIPAL POLICY_SIZE_EXCEEDS_SCP_QUOTA POLICY_SIZE_EXCEEDS_RCP_QUOTA
			SCP_SYNTAX_ERROR_PRINCIPAL RCP_SYNTAX_ERROR_PRINCIPAL RCP_SYNTAX_ERROR_ALLOW RCP_SYNTAX_ERROR_NOTACTION RCP_SYNTAX_ERROR_ACTION`,
		Warning: `INVALID_DATE_VALUE INVALID_ROLE_REFERENCE INVALID_USER_REFERENCE MISSING_VERSION UNIQUE_SIDS_RECOMMENDED
			WILDCARD_WITHOUT_LIKE_OPERATOR POLICY_SIZE_EXCEEDS_IDENTITY_POLICY_QUOTA POLICY_SIZE_EXCEEDS_RESOURCE_POLICY_QUOTA TYPE_MISMATCH TYPE_MISMATCH_BOOLEAN
			TYPE_MISMATCH_DATE TYPE_MISMATCH_NUMBER TYPE_MISMATCH_STRING`,
		SecurityWarning: `ALLOW_WITH_NOT_PRINCIPAL FORALLVALUES_WITH_SINGLE_VALUED_KEY RESTRICT_ACCESS_TO_SERVICE_PRINCIPAL UNTRUSTWORTHY_CONDITION_KEY MISSING_PAIRED_CONDITION_KEYS`,
		Suggestion: `EMPTY_ARRAY_ACTION EMPTY_ARRAY_CONDITION EMPTY_ARRAY_CONDITION_FORALLVALUES EMPTY_ARRAY_CONDITION_FORANYVALUE EMPTY_ARRAY_CONDITION_IFEXISTS
			EMPTY_ARRAY_PRINCIPAL EMPTY_ARRAY_RESOURCE EMPTY_OBJECT_CONDITION EMPTY_OBJECT_PRINCIPAL EMPTY_SID_VALUE IMPROVE_IP_RANGE NULL_WITH_QUALIFIER
			PRIVATE_IP_ADDRESS_SUBSET PRIVATE_NOT_IP_ADDRESS_SUBSET REDUNDANT_ACTION REDUNDANT_CONDITION_VALUE_NUM REDUNDANT_RESOURCE REDUNDANT_STATEMENT
			WILDCARD_IN_SERVICE_NAME`,
	} {
		for _, code := range strings.Fields(codes) {
			out[code] = severity
		}
	}
	return out
}()

// Codes lists the codes that Validate knows, sorted.
func Codes() (out []string) {
	for code := range severities {
		out = append(out, code)
	}
	slices.Sort(out)
	return out
}

// Validate checks a document of a kind: Key, Identity, SCP or RCP. Findings are in the order of
// the document.
func Validate(text string, kind policy.Kind) []Finding {
	c := &checker{text: text, kind: kind}
	root, at, err := parse(text)
	if err != nil {
		c.add("JSON_SYNTAX_ERROR", nil, &node{start: at, end: min(at+1, len(text))}, "At line %d, column %d %v.", position(text, at).Line, position(text, at).Column, err)
		return c.found
	}
	c.policy(root)
	c.redundantStatements(root)
	slices.SortStableFunc(c.found, func(a, b Finding) int { return a.Start.Offset - b.Start.Offset })
	return c.found
}

// A checker gathers the findings about one document.
type checker struct {
	text    string
	kind    policy.Kind
	version string
	found   []Finding
}

// add notes a finding about a value.
func (c *checker) add(code string, path []Step, n *node, format string, args ...any) {
	severity, known := severities[code]
	if !known {
		panic("findings: no code " + code) // a mistake of this package
	}
	c.found = append(c.found, Finding{severity, code, fmt.Sprintf(format, args...), slices.Clone(path), position(c.text, n.start), position(c.text, n.end)})
}

// name notes a finding about a member's name.
func (c *checker) name(code string, path []Step, m *member, format string, args ...any) {
	c.add(code, append(slices.Clone(path), Step{Name: m.name}), &node{start: m.start, end: m.end}, format, args...)
}

func in(path []Step, name string) []Step { return append(slices.Clip(path), Step{Member: name}) }

func at(path []Step, i int, array bool) []Step {
	if !array {
		return path
	}
	return append(slices.Clip(path), Step{Index: &i})
}

// quotas are how long policies may be, in characters without white space, by kind.
var quotas = map[policy.Kind]struct {
	code string
	max  int
}{
	policy.Identity: {"POLICY_SIZE_EXCEEDS_IDENTITY_POLICY_QUOTA", 6144},
	policy.Key:      {"POLICY_SIZE_EXCEEDS_RESOURCE_POLICY_QUOTA", 32768},
	policy.SCP:      {"POLICY_SIZE_EXCEEDS_SCP_QUOTA", 5120},
	policy.RCP:      {"POLICY_SIZE_EXCEEDS_RCP_QUOTA", 5120},
}

func (c *checker) policy(root *node) {
	if root.kind != '{' {
		c.add("DATA_TYPE_MISMATCH", nil, root, "A policy is an object.")
		return
	}
	size := len(strings.Join(strings.Fields(c.text), ""))
	if c.kind == policy.Key {
		size = len(c.text)
	}
	if q, bounded := quotas[c.kind]; bounded && size > q.max {
		c.add(q.code, nil, root, "The policy has %d characters, and %d are the most.", size, q.max)
	}
	var version, statement *node
	for i := range root.members {
		m := &root.members[i]
		switch m.name {
		case "Version":
			version = m.value
		case "Id":
			c.isText(m, nil)
		case "Statement":
			statement = m.value
		default:
			c.name("INVALID_POLICY_ELEMENT", nil, m, "A policy has no element %q.", m.name)
		}
	}
	switch {
	case version == nil:
		c.add("MISSING_VERSION", nil, &node{start: root.start, end: root.start + 1}, `Without a Version the policy is of 2008-10-17, which has no policy variables; add "Version": "2012-10-17".`)
	case version.kind != '"':
		c.add("DATA_TYPE_MISMATCH", in(nil, "Version"), version, "Version is a text.")
	case version.text != "2012-10-17" && version.text != "2008-10-17":
		c.add("INVALID_VERSION", in(nil, "Version"), version, "Version is 2012-10-17 or 2008-10-17, not %q.", version.text)
	default:
		c.version = version.text
	}
	if statement == nil {
		c.add("MISSING_STATEMENT", nil, root, "A policy has a Statement.")
		return
	}
	statements, array := statement.list()
	if len(statements) == 0 {
		c.add("MISSING_STATEMENT", in(nil, "Statement"), statement, "A policy has at least one statement.")
	}
	sids := map[string]bool{}
	for i, s := range statements {
		path := at(in(nil, "Statement"), i, array)
		if s.kind != '{' {
			c.add("DATA_TYPE_MISMATCH", path, s, "A statement is an object.")
			continue
		}
		c.statement(path, s, sids)
	}
}

// isText checks that a member is a text.
func (c *checker) isText(m *member, path []Step) bool {
	if m.value.kind != '"' {
		c.add("DATA_TYPE_MISMATCH", in(path, m.name), m.value, "%s is a text.", m.name)
	}
	return m.value.kind == '"'
}

// texts are those of a text or a list of texts, with the way to each.
func (c *checker) texts(m *member, path []Step) (out []*node, paths [][]Step) {
	list, array := m.value.list()
	for i, n := range list {
		p := at(in(path, m.name), i, array)
		if n.kind != '"' {
			c.add("DATA_TYPE_MISMATCH", p, n, "%s has texts.", m.name)
			continue
		}
		out, paths = append(out, n), append(paths, p)
	}
	return out, paths
}
