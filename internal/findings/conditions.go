package findings

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/policy"
)

// conditioned is the statement that a condition is of.
type conditioned struct {
	effect   string
	actions  []policy.Action // those that are named in full
	services []string        // principals
	only     bool            // the principals are services alone
}

// A valueType is what the values of a condition key are.
type valueType string

const (
	aString  valueType = "String"
	aNumber  valueType = "Numeric"
	aDate    valueType = "Date"
	aBool    valueType = "Bool"
	anIP     valueType = "IpAddress"
	anARN    valueType = "Arn"
	anything valueType = ""
)

var valueTypes = map[policy.KeyID]valueType{
	policy.KeyCurrentTime: aDate, policy.KeyTokenIssueTime: aDate, policy.KeyEpochTime: anything, policy.KeyMultiFactorAuthAge: aNumber,
	policy.KeyMultiFactorAuthPresent: aBool, policy.KeySecureTransport: aBool, policy.KeyViaAWSService: aBool, policy.KeyPrincipalIsAWSService: aBool,
	policy.KeySourceIP: anIP, policy.KeyVpcSourceIP: anIP, policy.KeyPrincipalArn: anARN, policy.KeySourceArn: anARN, policy.KeySourceVpcArn: anARN,
	policy.KeyKMSBypassPolicyLockoutSafetyCheck: aBool, policy.KeyKMSGrantIsForAWSResource: aBool, policy.KeyKMSMultiRegion: aBool, policy.KeyKMSReEncryptOnSameKey: aBool,
	policy.KeyKMSRotationPeriodInDays: aNumber, policy.KeyKMSScheduleKeyDeletionPendingWindowInDays: aNumber, policy.KeyKMSTrailingDaysWithoutKeyUsage: aNumber,
	policy.KeyKMSValidTo: anything, policy.KeyKMSGrantConstraintSourceArn: anARN,
}

var multiValued = []policy.KeyID{policy.KeyCalledVia, policy.KeyPrincipalOrgPaths, policy.KeyResourceOrgPaths, policy.KeySourceOrgPaths, policy.KeyVpceOrgPaths, policy.KeyTagKeys,
	policy.KeyPrincipalServiceNamesList, policy.KeyKMSEncryptionContextKeys, policy.KeyKMSGrantOperations, policy.KeyKMSResourceAliases}

// suffixed are keys that take a tag's key, or a pair's.
var suffixed = []policy.KeyID{policy.KeyPrincipalTag, policy.KeyRequestTag, policy.KeyResourceTag, policy.KeyKMSResourceTag, policy.KeyKMSEncryptionContext}

var untrustworthy = []policy.KeyID{policy.KeyReferer, policy.KeyUserAgent}

// callerOnly are keys that services, as principals, do not have.
var callerOnly = []policy.KeyID{policy.KeyPrincipalOrgID, policy.KeyPrincipalOrgPaths, policy.KeyPrincipalAccount, policy.KeyPrincipalTag, policy.KeyUserid, policy.KeyUsername,
	policy.KeyPrincipalType, policy.KeyKMSCallerAccount, policy.KeyMultiFactorAuthPresent, policy.KeyMultiFactorAuthAge}

// sensitive are keys in whose values a wildcard or a variable lets nearly anybody in.
var sensitive = []policy.KeyID{policy.KeyPrincipalOrgID, policy.KeyPrincipalAccount, policy.KeyKMSCallerAccount, policy.KeySourceVpc, policy.KeySourceVpce, policy.KeySourceAccount,
	policy.KeySourceOrgID, policy.KeyVpceAccount, policy.KeyVpceOrgID, policy.KeyUserid}

func (c *checker) conditions(path []Step, m *member, of conditioned) {
	place := in(path, "Condition")
	if m.value.kind != '{' {
		c.add("DATA_TYPE_MISMATCH", place, m.value, "Condition is an object.")
		return
	}
	if len(m.value.members) == 0 {
		c.add("EMPTY_OBJECT_CONDITION", place, m.value, "There is no condition in it.")
	}
	paired := map[policy.KeyID]bool{}
	for i := range m.value.members {
		operator := &m.value.members[i]
		if operator.value.kind != '{' {
			c.add("DATA_TYPE_MISMATCH", in(place, operator.name), operator.value, "An operator has an object of keys and values.")
			continue
		}
		o, ok := readOperator(operator.name)
		if !ok {
			c.name("INVALID_CONDITION_OPERATOR", place, operator, "There is no operator %s.", operator.name)
			continue
		}
		if o.family == "null" && o.ifExists {
			c.name("NULL_WITH_IF_EXISTS", place, operator, "Null asks whether a key is there: IfExists makes no sense with it.")
		}
		if o.family == "null" && o.qualifier != "" {
			c.name("NULL_WITH_QUALIFIER", place, operator, "Null asks whether a key is there: it needs no %s.", o.qualifier)
		}
		if len(operator.value.members) == 0 {
			c.add("EMPTY_OBJECT_CONDITION", in(place, operator.name), operator.value, "There is no condition in it.")
		}
		names := map[string]string{}
		for j := range operator.value.members {
			key := &operator.value.members[j]
			if before, known := names[strings.ToLower(key.name)]; known && before != key.name {
				c.name("DUPLICATE_KEYS_WITH_DIFFERENT_CASE", in(place, operator.name), key, "%s and %s are one key.", before, key.name)
			}
			names[strings.ToLower(key.name)] = key.name
			paired[policy.KeyNamed(key.name).ID] = true
			c.condition(in(place, operator.name), o, key, of)
		}
	}
	if of.effect == "Allow" && paired[policy.KeyVpcSourceIP] && !paired[policy.KeySourceVpc] && !paired[policy.KeySourceVpce] { // UNVERIFIED: which keys are a pair
		c.add("MISSING_PAIRED_CONDITION_KEYS", place, m.value, "Addresses within a VPC are the same in others: say which one with aws:SourceVpc or aws:SourceVpce.")
	}
}

// An operator is one of a condition, read.
type operator struct {
	qualifier         string // ForAllValues, ForAnyValue or empty
	family            string // in lower case, without Not
	negated, ifExists bool
}

var families = regexp.MustCompile(`^(string(not)?(equals|equalsignorecase|like)|numeric(not)?equals|numeric(less|greater)than(equals)?|date(not)?equals|date(less|greater)than(equals)?|bool|binaryequals|(not)?ipaddress|arn(not)?(equals|like)|null)$`)

func readOperator(name string) (o operator, ok bool) {
	if q, rest, found := strings.Cut(name, ":"); found {
		if q != "ForAllValues" && q != "ForAnyValue" {
			return o, false
		}
		o.qualifier, name = q, rest
	}
	name, o.ifExists = strings.CutSuffix(name, "IfExists")
	o.family = strings.ToLower(name)
	ok = families.MatchString(o.family)
	o.negated = strings.Contains(o.family, "not")
	o.family = strings.Replace(o.family, "not", "", 1)
	return o, ok
}

// wants is the type of values that an operator compares.
func (o operator) wants() valueType {
	for prefix, t := range map[string]valueType{"string": aString, "numeric": aNumber, "date": aDate, "bool": aBool, "ipaddress": anIP, "arn": anARN} {
		if strings.HasPrefix(o.family, prefix) {
			return t
		}
	}
	return anything
}

func (o operator) likes() bool {
	return strings.HasSuffix(o.family, "like") || strings.HasPrefix(o.family, "arn")
}

func (c *checker) condition(path []Step, o operator, m *member, of conditioned) {
	key := policy.KeyNamed(m.name)
	if !c.keyName(path, m, key) {
		return
	}
	several := slices.Contains(multiValued, key.ID)
	switch {
	case key.ID == policy.KeyUnknown || o.family == "null":
	case several && o.qualifier == "":
		c.name("MISSING_QUALIFIER", path, m, "%s has several values: say ForAnyValue: or ForAllValues: before the operator.", m.name)
	case !several && o.qualifier == "ForAllValues" && of.effect == "Allow":
		c.name("FORALLVALUES_WITH_SINGLE_VALUED_KEY", path, m, "%s has one value: ForAllValues is true as well when it is missing.", m.name)
	}
	if slices.Contains(untrustworthy, key.ID) {
		c.name("UNTRUSTWORTHY_CONDITION_KEY", path, m, "Callers say what %s is, and can say anything.", m.name)
	}
	if of.only && of.effect == "Allow" && slices.Contains(callerOnly, key.ID) && o.family != "null" {
		c.name("UNSUPPORTED_CONDITION_KEY_FOR_SERVICE_PRINCIPAL", path, m, "Requests of %s do not have %s.", strings.Join(of.services, ", "), m.name)
	}
	for _, a := range of.actions {
		if key.ID != policy.KeyUnknown && strings.HasPrefix(a.String(), "kms:") && !analyze.Carries(key, a) && o.family != "null" {
			c.name("UNSUPPORTED_ACTION_FOR_CONDITION_KEY", path, m, "Requests for %s do not have %s.", a, m.name)
			break
		}
	}
	c.values(path, o, m, key)
}

// keyName checks the name of a condition key, and reports whether it makes sense to go on.
func (c *checker) keyName(path []Step, m *member, key policy.ConditionKey) bool {
	service, rest, ok := strings.Cut(m.name, ":")
	switch lower := strings.ToLower(m.name); {
	case strings.EqualFold(m.name, "aws:ARN"):
		c.name("UNSUPPORTED_GLOBAL_CONDITION_KEY", path, m, "aws:ARN is not supported: use aws:PrincipalArn.")
	case !ok || service == "" || rest == "":
		c.name("INVALID_CONDITION_KEY_FORMAT", path, m, "A condition key is written SERVICE:NAME, not %q.", m.name)
	case slices.ContainsFunc(suffixed, func(id policy.KeyID) bool { return key.ID == id && key.Suffix == "" }) ||
		slices.Contains([]string{"aws:principaltag", "aws:requesttag", "aws:resourcetag", "kms:resourcetag", "kms:encryptioncontext"}, lower):
		c.name("MISSING_TAG_KEY_IN_CONDITION", path, m, "%s needs a key at its end.", m.name)
	case key.ID == policy.KeyUnknown && strings.EqualFold(service, "aws") && !slices.Contains(elsewhere, lower):
		c.name("INVALID_GLOBAL_CONDITION_KEY", path, m, "There is no condition key %s: no request has it.", m.name)
	case key.ID == policy.KeyUnknown && strings.EqualFold(service, "kms"):
		c.name("INVALID_SERVICE_CONDITION_KEY", path, m, "KMS has no condition key %s: no request has it.", m.name)
	default:
		return true
	}
	return false
}

// elsewhere are global condition keys that requests to KMS do not have.
var elsewhere = []string{"aws:assumedroot", "aws:ec2instancesourcevpc", "aws:ec2instancesourceprivateipv4", "aws:chatbotsourcearn", "aws:ismcpserviceaction"}

var (
	vpcID     = regexp.MustCompile(`^vpc-([0-9a-f]{8}|[0-9a-f]{17})$`)
	vpceID    = regexp.MustCompile(`^vpce-([0-9a-f]{8}|[0-9a-f]{17})$`)
	via       = regexp.MustCompile(`^[a-z0-9-]+\.([a-z]{2}(-[a-z]+)+-[0-9]|\*)\.amazonaws\.com(\.cn)?$`)
	epochTime = regexp.MustCompile(`^[0-9]{9,11}$`)
)

// values checks the values of a condition.
func (c *checker) values(path []Step, o operator, m *member, key policy.ConditionKey) {
	list, array := m.value.list()
	place := in(path, m.name)
	if array && len(list) == 0 {
		code := "EMPTY_ARRAY_CONDITION"
		switch {
		case o.qualifier == "ForAllValues":
			code += "_FORALLVALUES"
		case o.qualifier == "ForAnyValue":
			code += "_FORANYVALUE"
		case o.ifExists:
			code += "_IFEXISTS"
		}
		c.add(code, place, m.value, "There is no value to compare with.")
		return
	}
	kinds := map[bool]bool{}
	for i, n := range list {
		p := at(place, i, array)
		if !n.isScalar() {
			c.add("DATA_TYPE_MISMATCH", p, n, "A value is a text, a number or a truth.")
			continue
		}
		kinds[n.kind == '"'] = true
		c.value(p, o, n, key)
		if o.family == "numericequals" || strings.HasPrefix(o.family, "string") {
			if o.likes() {
				c.redundant("REDUNDANT_CONDITION_VALUE_NUM", list, i, p, false)
			} else if slices.ContainsFunc(list[:i], func(other *node) bool { return other.text == n.text }) {
				c.add("REDUNDANT_CONDITION_VALUE_NUM", p, n, "%q is in it already.", n.text)
			}
		}
	}
	if len(kinds) > 1 {
		c.add("INVALID_CONDITION_DATA_TYPE", place, m.value, "The values are texts, and others: write all of them alike.")
	}
	if len(list) > 1 && (o.family == "bool" || o.family == "null") {
		c.add("INVALID_CONDITION_MULTIPLE_BOOLEAN", place, m.value, "Of true and false there is one.")
	}
	c.mismatch(place, o, m, key)
	if key.ID == policy.KeySourceIP && o.wants() == anIP {
		c.private(place, o, m.value, list)
	}
}

// mismatch notes that an operator does not fit a key.
func (c *checker) mismatch(place []Step, o operator, m *member, key policy.ConditionKey) {
	has, known := valueTypes[key.ID]
	if !known {
		has = aString
	}
	wants := o.wants()
	if wants == anything || has == anything || has == wants || key.ID == policy.KeyUnknown || has == anARN && wants == aString || has == aBool && wants == aString ||
		slices.Contains(suffixed, key.ID) || has == aString && wants == anARN {
		return
	}
	c.add("TYPE_MISMATCH", place, m.value, "%s is compared as %s, and is %s.", m.name, wants, has)
}

func (c *checker) value(path []Step, o operator, n *node, key policy.ConditionKey) {
	variable := strings.Contains(n.text, "${")
	c.variables(path, n, o.wants() == aString || o.wants() == anARN || o.wants() == aBool)
	switch o.wants() {
	case aNumber:
		if _, err := strconv.ParseFloat(n.text, 64); err != nil && !variable {
			c.add("TYPE_MISMATCH_NUMBER", path, n, "%q is no number.", n.text)
		}
	case aDate:
		_, err := time.Parse(time.RFC3339, n.text)
		_, err2 := time.Parse(time.DateOnly, n.text)
		switch {
		case epochTime.MatchString(n.text):
			c.add("INVALID_DATE_VALUE", path, n, "Seconds since 1970 are hard to read: write the date as 2026-01-02T03:04:05Z.")
		case err != nil && err2 != nil && !variable:
			c.add("TYPE_MISMATCH_DATE", path, n, "%q is no date.", n.text)
		}
	case aBool:
		if !strings.EqualFold(n.text, "true") && !strings.EqualFold(n.text, "false") && !variable {
			c.add("TYPE_MISMATCH_BOOLEAN", path, n, "%q is neither true nor false.", n.text)
		}
	case anIP:
		c.address(path, n)
	case aString:
		if n.kind != '"' && !slices.Contains([]valueType{aBool}, valueTypes[key.ID]) {
			c.add("TYPE_MISMATCH_STRING", path, n, "It is compared as a text: write it in quotation marks.")
		}
	}
	if o.family == "null" && !strings.EqualFold(n.text, "true") && !strings.EqualFold(n.text, "false") {
		c.add("TYPE_MISMATCH_BOOLEAN", path, n, "%q is neither true nor false.", n.text)
	}
	if o.wants() == aString && !o.likes() && strings.ContainsAny(n.text, "*?") && !variable && !slices.Contains(suffixed, key.ID) {
		c.add("WILDCARD_WITHOUT_LIKE_OPERATOR", path, n, "%q has a wildcard, which counts with StringLike alone.", n.text)
	}
	wild := o.likes() && strings.ContainsAny(n.text, "*?")
	if slices.Contains(sensitive, key.ID) && !o.negated {
		literal := n.text[:min(len(n.text), indexAny(n.text, "*?$"))]
		switch {
		case variable && slices.Contains([]string{"aws:PrincipalAccount", "aws:ResourceAccount", "aws:PrincipalOrgID", "aws:ResourceOrgID"}, strings.Trim(n.text, "${}")): // which callers do not choose
		case variable && len(literal) < 6:
			c.add("VARIABLE_USAGE_TOO_PERMISSIVE", path, n, "A variable in %s can stand for nearly anything.", key)
		case wild && len(literal) < 6:
			c.add("WILDCARD_USAGE_TOO_PERMISSIVE", path, n, "%q matches nearly any value of %s.", n.text, key)
		}
	}
	if wild || variable || strings.ContainsAny(n.text, "*?") {
		return
	}
	switch key.ID {
	case policy.KeySourceVpc:
		if !vpcID.MatchString(n.text) {
			c.add("INVALID_VPC_FORMAT", path, n, "A VPC is written vpc- and 8 or 17 hexadecimal digits.")
		}
	case policy.KeySourceVpce:
		if !vpceID.MatchString(n.text) {
			c.add("INVALID_VPCE_FORMAT", path, n, "A VPC endpoint is written vpce- and 8 or 17 hexadecimal digits.")
		}
	case policy.KeyKMSViaService:
		if !via.MatchString(n.text) {
			c.add("INVALID_SERVICE_PRINCIPAL_FORMAT", path, n, "kms:ViaService is written as s3.us-east-1.amazonaws.com, not %q.", n.text)
		}
	case policy.KeyRequestedRegion, policy.KeyKMSReplicaRegion, policy.KeyKMSPrimaryRegion:
		if !regionName.MatchString(n.text) {
			c.add("INVALID_REGION", path, n, "There is no Region %q.", n.text)
		}
	}
}

func indexAny(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}

func (c *checker) address(path []Step, n *node) {
	prefix, err := netip.ParsePrefix(n.text)
	if err != nil {
		if _, err := netip.ParseAddr(n.text); err != nil && !strings.Contains(n.text, "${") {
			c.add("TYPE_MISMATCH_IP_RANGE", path, n, "%q is neither an address nor a range of them.", n.text)
		}
		return
	}
	if prefix.Masked() != prefix {
		c.add("IMPROVE_IP_RANGE", path, n, "The range begins at %s: write %s.", prefix.Masked().Addr(), prefix.Masked())
	}
}

// private notes addresses that requests to a public endpoint never come from.
func (c *checker) private(place []Step, o operator, whole *node, list []*node) {
	private := 0
	for _, n := range list {
		prefix, err := netip.ParsePrefix(n.text)
		ip, err2 := netip.ParseAddr(n.text)
		if err == nil {
			ip = prefix.Addr()
		}
		if (err == nil || err2 == nil) && ip.IsPrivate() && (err != nil || prefix.Bits() >= 8) {
			private++
		}
	}
	code := "PRIVATE_IP_ADDRESS"
	if o.negated {
		code = "PRIVATE_NOT_IP_ADDRESS"
	}
	switch {
	case private == 0:
	case private == len(list):
		c.add(code, place, whole, "aws:SourceIp is a public address: these are private ones, so the condition %s.", map[bool]string{true: "always holds", false: "never holds"}[o.negated])
	default:
		c.add(code+"_SUBSET", place, whole, "aws:SourceIp is a public address: some of these are private ones, and do nothing.")
	}
}

// variables checks policy variables in a text.
func (c *checker) variables(path []Step, n *node, allowed bool) {
	rest := n.text
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			return
		}
		rest = rest[i+2:]
		j := strings.IndexByte(rest, '}')
		if j < 0 {
			c.add("MISSING_BRACE_IN_VARIABLE", path, n, "A variable ends with a brace: ${...}.")
			return
		}
		name := rest[:j]
		rest = rest[j+1:]
		switch {
		case c.version != "2012-10-17":
			c.add("VARIABLE_UNSUPPORTED_IN_VERSION", path, n, "Variables need the Version 2012-10-17: here ${%s} is just text.", name)
			return
		case strings.TrimSpace(name) == "":
			c.add("EMPTY_VARIABLE", path, n, "The variable has no name.")
		case strings.Count(name, "'")%2 == 1:
			c.add("MISSING_QUOTE_IN_VARIABLE", path, n, "A default value stands between single quotation marks.")
		case strings.Contains(beforeDefault(name), " "):
			c.add("UNSUPPORTED_SPACE_IN_VARIABLE", path, n, "The name of a variable has no spaces.")
		case !allowed && name != "*" && name != "?" && name != "$":
			c.add("INVALID_VARIABLE_FOR_OPERATOR", path, n, "This operator takes no variables.")
		}
	}
}

// beforeDefault is a variable's name without its default value.
func beforeDefault(name string) string {
	name, _, _ = strings.Cut(name, ",")
	return strings.TrimSpace(name)
}
