package findings

import (
	"regexp"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
)

// elements are those of a statement.
type elements map[string]*member

var statementElements = []string{"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}

func (c *checker) statement(path []Step, s *node, sids map[string]bool) {
	e := elements{}
	for i := range s.members {
		m := &s.members[i]
		if !slices.Contains(statementElements, m.name) {
			c.name("INVALID_POLICY_ELEMENT", path, m, "A statement has no element %q.", m.name)
			continue
		}
		e[m.name] = m
	}
	for _, name := range []string{"Principal", "Action", "Resource"} {
		if e[name] != nil && e["Not"+name] != nil {
			c.add("UNSUPPORTED_ELEMENT_COMBINATION", path, s, "A statement has %s or Not%s, and not both.", name, name)
		}
	}
	c.sid(path, e["Sid"], sids)
	effect := ""
	switch m := e["Effect"]; {
	case m == nil:
		c.add("MISSING_EFFECT", path, s, "A statement has an Effect.")
	case !c.isText(m, path):
	case m.value.text != "Allow" && m.value.text != "Deny":
		c.add("INVALID_EFFECT", in(path, "Effect"), m.value, "Effect is Allow or Deny, not %q.", m.value.text)
	default:
		effect = m.value.text
	}
	actions := c.actions(path, s, e)
	c.resources(path, s, e)
	services := c.principals(path, s, e, effect)
	if e["Condition"] != nil {
		c.conditions(path, e["Condition"], conditioned{effect, actions, services, onlyServices(e["Principal"])})
	}
	if effect == "Allow" && len(services) > 0 && c.kind == policy.Key && !restricted(e["Condition"]) {
		c.add("RESTRICT_ACCESS_TO_SERVICE_PRINCIPAL", in(path, "Principal"), e["Principal"].value,
			"%s may act on behalf of anybody: say on whose with aws:SourceArn, aws:SourceAccount, aws:SourceOrgID or aws:SourceOrgPaths.", strings.Join(services, ", "))
	}
	if c.kind == policy.RCP && effect == "Allow" {
		c.add("RCP_SYNTAX_ERROR_ALLOW", in(path, "Effect"), e["Effect"].value, "Statements of a resource control policy deny.")
	}
}

var plainSid = regexp.MustCompile(`^[0-9A-Za-z]*$`)

func (c *checker) sid(path []Step, m *member, sids map[string]bool) {
	if m == nil || !c.isText(m, path) {
		return
	}
	sid, place := m.value.text, in(path, "Sid")
	switch {
	case sid == "":
		c.add("EMPTY_SID_VALUE", place, m.value, "The Sid is empty: leave it out, or say something.")
	case c.kind == policy.Identity && !plainSid.MatchString(sid):
		c.add("UNSUPPORTED_SID", place, m.value, "The Sid has characters other than letters and digits.")
	}
	if sid != "" && sids[sid] {
		code := "UNIQUE_SIDS_RECOMMENDED"
		if c.kind == policy.Identity {
			code = "UNIQUE_SIDS_REQUIRED"
		}
		c.add(code, place, m.value, "Another statement has the Sid %q too.", sid)
	}
	sids[sid] = true
}

// actions checks Action and NotAction, and returns the actions that are named in full.
func (c *checker) actions(path []Step, s *node, e elements) (named []policy.Action) {
	m := e["Action"]
	if m == nil {
		m = e["NotAction"]
	}
	if m == nil {
		c.add("MISSING_ACTION", path, s, "A statement has an Action or a NotAction.")
		return nil
	}
	if c.kind == policy.RCP && m.name == "NotAction" {
		c.name("RCP_SYNTAX_ERROR_NOTACTION", path, m, "A resource control policy has no NotAction.")
	}
	list, paths := c.texts(m, path)
	if m.value.kind == '[' && len(m.value.elements) == 0 {
		c.add("EMPTY_ARRAY_ACTION", in(path, m.name), m.value, "There is no action in it, so the statement does nothing.")
	}
	for i, n := range list {
		service, name, ok := strings.Cut(n.text, ":")
		switch {
		case strings.Contains(n.text, "${"):
			c.add("VARIABLE_UNSUPPORTED_IN_ELEMENT", paths[i], n, "%s has no policy variables.", m.name)
		case n.text == "*":
			if c.kind == policy.RCP {
				c.add("RCP_SYNTAX_ERROR_ACTION", paths[i], n, `A resource control policy names services, not "*".`)
			}
		case !ok || name == "":
			c.add("INVALID_ACTION", paths[i], n, "An action is written SERVICE:NAME, not %q.", n.text)
		case strings.ContainsAny(service, "*?"):
			c.add("WILDCARD_IN_SERVICE_NAME", paths[i], n, "The service of %q is a pattern: name the service.", n.text)
		case strings.Trim(strings.ToLower(service), "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			c.add("INVALID_SERVICE_IN_ACTION", paths[i], n, "There is no service %q.", service)
		case strings.EqualFold(service, "kms") && policy.ActionsNamed(n.text) == (policy.ActionSet{}):
			c.add("INVALID_ACTION", paths[i], n, "KMS has no action %s%s.", n.text, closest(name))
		}
		if a, ok := policy.ActionNamed(n.text); ok {
			named = append(named, a)
		}
		c.redundant("REDUNDANT_ACTION", list, i, paths[i], true)
	}
	return named
}

// closest suggests an action that is spelled much like one that does not exist.
func closest(name string) string {
	best, distance := "", len(name)/3+1
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if known, ok := strings.CutPrefix(a.String(), "kms:"); ok {
			if d := edits(strings.ToLower(name), strings.ToLower(known)); d < distance {
				best, distance = known, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return "; perhaps kms:" + best + " is meant"
}

// edits counts the letters to change, add or take away to make one text of another.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// redundant notes that another entry of a list covers the ith.
func (c *checker) redundant(code string, list []*node, i int, path []Step, fold bool) {
	text := func(n *node) string {
		if fold {
			return strings.ToLower(n.text)
		}
		return n.text
	}
	for j, other := range list {
		same := text(other) == text(list[i])
		if j != i && (!same || j < i) && policy.Glob(text(other)).Match(text(list[i])) && !strings.Contains(other.text, "${") {
			c.add(code, path, list[i], "%q is in it already, by %q.", list[i].text, other.text)
			return
		}
	}
}

var (
	regionName    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	keyResource   = regexp.MustCompile(`^key/(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)
	aliasResource = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)
)

// resources checks Resource and NotResource.
func (c *checker) resources(path []Step, s *node, e elements) {
	m := e["Resource"]
	if m == nil {
		m = e["NotResource"]
	}
	if m == nil {
		c.add("MISSING_RESOURCE", path, s, "A statement has a Resource or a NotResource.")
		return
	}
	list, paths := c.texts(m, path)
	if m.value.kind == '[' && len(m.value.elements) == 0 {
		c.add("EMPTY_ARRAY_RESOURCE", in(path, m.name), m.value, "There is no resource in it, so the statement does nothing.")
	}
	for i, n := range list {
		c.resource(paths[i], n)
		c.redundant("REDUNDANT_RESOURCE", list, i, paths[i], false)
	}
}

func (c *checker) resource(path []Step, n *node) {
	c.variables(path, n, true)
	if strings.Trim(n.text, "*") == "" && n.text != "" {
		return
	}
	fields := strings.SplitN(n.text, ":", 6)
	wild := func(s string) bool { return strings.ContainsAny(s, "*?$") }
	switch {
	case fields[0] != "arn":
		c.add("INVALID_ARN_PREFIX", path, n, `A resource is "*" or begins with arn:, not as %q.`, n.text)
		return
	case len(fields) < 6:
		if !wild(fields[len(fields)-1]) {
			c.add("MISSING_ARN_FIELD", path, n, "An ARN has six fields: arn:partition:service:region:account:resource.")
		}
		return
	}
	partition, service, region, account, resource := fields[1], fields[2], fields[3], fields[4], fields[5]
	if !wild(partition) && !slices.Contains([]string{"aws", "aws-cn", "aws-us-gov"}, partition) {
		c.add("INVALID_PARTITION", path, n, "There is no partition %q.", partition)
	}
	if service != strings.ToLower(service) {
		c.add("INVALID_ARN_SERVICE_CASE", path, n, "The service is written in lower case: %s.", strings.ToLower(service))
	}
	if !wild(service) && strings.Trim(strings.ToLower(service), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		c.add("INVALID_SERVICE", path, n, "There is no service %q.", service)
	}
	if strings.ToLower(service) != "kms" {
		return
	}
	switch {
	case region == "":
		c.add("MISSING_ARN_REGION", path, n, "The ARN of a key has a Region.")
	case !wild(region) && !regionName.MatchString(region):
		c.add("INVALID_ARN_REGION", path, n, "There is no Region %q.", region)
	}
	switch {
	case account == "":
		c.add("MISSING_ARN_ACCOUNT", path, n, "The ARN of a key has an account.")
	case !wild(account) && !arn.IsAccount(account):
		c.add("INVALID_ARN_ACCOUNT", path, n, "An account has 12 digits, not %q.", account)
	}
	if !wild(resource) && !keyResource.MatchString(resource) && !aliasResource.MatchString(resource) {
		c.add("INVALID_ARN_RESOURCE", path, n, "KMS has key/ID and alias/NAME, not %q.", resource)
	}
}

// onlyServices reports whether a Principal names services alone.
func onlyServices(m *member) bool {
	return m != nil && m.value.kind == '{' && len(m.value.members) > 0 && !slices.ContainsFunc(m.value.members, func(p member) bool { return p.name != "Service" })
}

// principals checks Principal and NotPrincipal, and returns the services that are named.
func (c *checker) principals(path []Step, s *node, e elements, effect string) (services []string) {
	m := e["Principal"]
	if m == nil {
		m = e["NotPrincipal"]
	}
	switch {
	case c.kind == policy.Identity && m != nil:
		c.name("UNSUPPORTED_PRINCIPAL", path, m, "An identity policy has no %s: it is about whoever it is attached to.", m.name)
		return nil
	case c.kind == policy.SCP && m != nil:
		c.name("SCP_SYNTAX_ERROR_PRINCIPAL", path, m, "A service control policy has no %s.", m.name)
		return nil
	case c.kind == policy.Identity || c.kind == policy.SCP:
		return nil
	case m == nil:
		c.add("MISSING_PRINCIPAL", path, s, "A statement of this kind of policy has a Principal.")
		return nil
	case c.kind == policy.RCP && (m.name == "NotPrincipal" || m.value.kind != '"' || m.value.text != "*"):
		c.add("RCP_SYNTAX_ERROR_PRINCIPAL", in(path, m.name), m.value, `The Principal of a resource control policy is "*".`)
		return nil
	}
	if effect == "Allow" && m.name == "NotPrincipal" {
		c.name("ALLOW_WITH_NOT_PRINCIPAL", path, m, "It allows everybody who is not named: name those whom it is to allow.")
	}
	place := in(path, m.name)
	switch {
	case m.value.kind == '"' && m.value.text == "*":
		return nil
	case m.value.kind != '{':
		c.add("INVALID_PRINCIPAL_FORMAT", place, m.value, `A Principal is "*", or an object such as {"AWS": "arn:aws:iam::111122223333:root"}.`)
		return nil
	case len(m.value.members) == 0:
		c.add("EMPTY_OBJECT_PRINCIPAL", place, m.value, "It names nobody, so the statement does nothing.")
	}
	for i := range m.value.members {
		p := &m.value.members[i]
		if !slices.Contains([]string{"AWS", "Service", "Federated", "CanonicalUser"}, p.name) {
			c.name("INVALID_PRINCIPAL_KEY", place, p, "Principals are AWS, Service, Federated or CanonicalUser, not %s.", p.name)
			continue
		}
		list, paths := c.texts(p, place)
		if p.value.kind == '[' && len(p.value.elements) == 0 {
			c.add("EMPTY_ARRAY_PRINCIPAL", in(place, p.name), p.value, "It names nobody.")
		}
		for j, n := range list {
			c.principal(paths[j], p.name, n)
			if p.name == "Service" {
				services = append(services, n.text)
			}
		}
	}
	return services
}

var serviceName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?$`)

func (c *checker) principal(path []Step, kind string, n *node) {
	switch {
	case strings.Contains(n.text, "${"):
		c.add("VARIABLE_UNSUPPORTED_IN_ELEMENT", path, n, "A Principal has no policy variables.")
	case kind == "Federated":
		c.add("FEDERATED_PRINCIPAL_NOT_SUPPORTED", path, n, "Federated principals stand in the trust policies of roles alone.")
	case kind == "Service" && !serviceName.MatchString(n.text):
		c.add("INVALID_SERVICE_PRINCIPAL_FORMAT", path, n, "A service is written as logs.amazonaws.com, not %q.", n.text)
	case kind != "AWS" || n.text == "*":
	case strings.ContainsAny(n.text, "*?"):
		c.add("UNSUPPORTED_WILDCARD_IN_PRINCIPAL", path, n, `A principal is no pattern: say "*" and a condition such as ArnLike aws:PrincipalArn.`)
	case strings.HasPrefix(n.text, "AROA"):
		c.add("INVALID_ROLE_REFERENCE", path, n, "It is the id of a role that is gone: nobody is meant by it.")
	case strings.HasPrefix(n.text, "AIDA"):
		c.add("INVALID_USER_REFERENCE", path, n, "It is the id of a user who is gone: nobody is meant by it.")
	case arn.IsAccount(n.text):
	default:
		if a, err := arn.Parse(n.text); err != nil || a.Service != "iam" && a.Service != "sts" || !arn.IsAccount(a.Account) {
			c.add("INVALID_PRINCIPAL_FORMAT", path, n, "%q is not an account, nor the ARN of a user, a role or a session.", n.text)
		}
	}
}

// restricted reports whether a condition says on whose behalf a service acts.
func restricted(m *member) bool {
	if m == nil || m.value.kind != '{' {
		return false
	}
	for _, operator := range m.value.members {
		for _, key := range operator.value.members {
			id := policy.KeyNamed(key.name).ID
			if slices.Contains([]policy.KeyID{policy.KeySourceArn, policy.KeySourceAccount, policy.KeySourceOrgID, policy.KeySourceOrgPaths}, id) {
				return true
			}
		}
	}
	return false
}
