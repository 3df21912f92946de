package analyze

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// Groups of condition keys whose values depend on each other. Any other key is a group of
// its own.
const (
	ofCaller      = "the caller"
	ofKey         = "the key"
	ofEndpoint    = "the way in"
	ofForwarding  = "the forwarding service"
	ofTime        = "the time"
	ofCredentials = "the credentials"
	ofCallerOrg   = "the caller's organization"
	ofContext     = "the encryption context"
	ofTags        = "the tags"
)

var groups = map[policy.KeyID]string{
	policy.KeyPrincipalArn: ofCaller, policy.KeyPrincipalAccount: ofCaller, policy.KeyKMSCallerAccount: ofCaller, policy.KeyPrincipalType: ofCaller,
	policy.KeyPrincipalIsAWSService: ofCaller, policy.KeyPrincipalServiceName: ofCaller, policy.KeyPrincipalServiceNamesList: ofCaller, policy.KeyUsername: ofCaller,
	policy.KeyResourceAccount: ofKey, policy.KeyRequestedRegion: ofKey,
	policy.KeySourceIP: ofEndpoint, policy.KeySourceVpc: ofEndpoint, policy.KeySourceVpce: ofEndpoint, policy.KeySourceVpcArn: ofEndpoint, policy.KeyVpcSourceIP: ofEndpoint,
	policy.KeyVpceAccount: ofEndpoint, policy.KeyVpceOrgID: ofEndpoint, policy.KeyVpceOrgPaths: ofEndpoint,
	policy.KeyViaAWSService: ofForwarding, policy.KeyCalledVia: ofForwarding, policy.KeyCalledViaFirst: ofForwarding, policy.KeyCalledViaLast: ofForwarding,
	policy.KeyKMSViaService: ofForwarding,
	policy.KeyCurrentTime:   ofTime, policy.KeyEpochTime: ofTime,
	policy.KeyTokenIssueTime: ofCredentials, policy.KeyMultiFactorAuthPresent: ofCredentials, policy.KeyMultiFactorAuthAge: ofCredentials,
	policy.KeyPrincipalOrgID: ofCallerOrg, policy.KeyPrincipalOrgPaths: ofCallerOrg,
	policy.KeyKMSEncryptionContext: ofContext, policy.KeyKMSEncryptionContextKeys: ofContext,
	policy.KeyRequestTag: ofTags, policy.KeyTagKeys: ofTags,
}

// What not every caller can have.
const (
	lasting     = "long-term credentials"
	taken       = "tags that are taken away"
	unforwarded = "not forwarded"
)

func groupOf(key policy.ConditionKey) string { return cmp.Or(groups[key.ID], nameOf(key)) }

// severalParts reports whether each value of a key is in a dimension of its own.
func severalParts(id policy.KeyID) bool {
	return id == policy.KeyKMSEncryptionContextKeys || id == policy.KeyTagKeys || id == policy.KeyKMSGrantOperations || id == policy.KeyKMSResourceAliases
}

// partsOf makes the dimensions of a group.
func (s *space) partsOf(group string, tests []*test) ([]*dimension, error) {
	of := func(ids ...policy.KeyID) (out []*test) {
		for _, t := range tests {
			if slices.Contains(ids, t.Key().ID) {
				out = append(out, t)
			}
		}
		return out
	}
	switch group {
	case ofEndpoint:
		return single(group)(s.waysIn(of))
	case ofForwarding:
		return single(group)(s.forwardings(of))
	case ofTime:
		return single(group)(times(shapesOf(tests)))
	case ofCredentials:
		return single(group)(credentials(of))
	case ofCallerOrg:
		return single(group)(organizations(of))
	case ofContext:
		return pairs(of(policy.KeyKMSEncryptionContext), of(policy.KeyKMSEncryptionContextKeys), func(x *situation, key, value string) { x.context[key] = value }, nil)
	case ofTags:
		return pairs(of(policy.KeyRequestTag), of(policy.KeyTagKeys), func(x *situation, key, value string) { x.tags.Set[key] = value },
			func(x *situation, key string) { x.tags.Removed = append(slices.Clip(x.tags.Removed), key) })
	}
	key := tests[0].Key()
	if severalParts(key.ID) {
		values, err := valuesOf(key, tests)
		return elements(key, values, func(x *situation, text string) {
			name := nameOf(key)
			x.values[name] = policy.Many(append(slices.Clone(x.values[name].List), text))
		}), err
	}
	values, err := valuesOf(key, tests)
	if err != nil {
		return nil, err
	}
	p := &dimension{name: key.String()}
	switch {
	case key.ID == policy.KeyUserid || key.ID == policy.KeyUserAgent: // which situations have
		p.samples = append(p.samples, sample{set: setting(key, "")})
	case !always[key.ID]:
		p.samples = append(p.samples, sample{})
	}
	for _, v := range values {
		if v != "" || key.ID == policy.KeyPrincipalTag {
			p.samples = append(p.samples, sample{name: key.String() + " = " + v, set: setting(key, v)})
		}
	}
	return []*dimension{p}, nil
}

// always are keys that every request has.
var always = map[policy.KeyID]bool{policy.KeySecureTransport: true}

func single(name string) func([]sample, error) ([]*dimension, error) {
	return func(samples []sample, err error) ([]*dimension, error) {
		return []*dimension{{name: name, samples: samples}}, err
	}
}

// setting sets a condition key that depends on no other.
func setting(key policy.ConditionKey, v string) func(*situation) {
	return func(s *situation) {
		switch key.ID {
		case policy.KeySecureTransport:
			s.SecureTransport = v == "true"
		case policy.KeyUserAgent:
			s.UserAgent = v
		case policy.KeyReferer:
			s.Referer = v
		case policy.KeySourceArn:
			s.SourceArn = v
		case policy.KeySourceAccount:
			s.SourceAccount = v
		case policy.KeySourceOrgID:
			s.SourceOrg.Organization = v
		case policy.KeySourceOrgPaths:
			s.SourceOrg.Paths = []string{v}
		case policy.KeyResourceOrgID:
			s.ResourceOrg.Organization = v
		case policy.KeyResourceOrgPaths:
			s.ResourceOrg.Paths = []string{v}
		case policy.KeyPrincipalTag:
			s.Caller.Tags = maps.Clone(s.Caller.Tags)
			if s.Caller.Tags == nil {
				s.Caller.Tags = map[string]string{}
			}
			s.Caller.Tags[key.Suffix] = v
		case policy.KeyUserid:
			s.Caller.UserID = v
		case policy.KeySourceIdentity:
			s.Caller.SourceIdentity = v
		case policy.KeyFederatedProvider:
			s.Caller.Provider = v
		default:
			s.values[nameOf(key)] = policy.One(v)
		}
	}
}

// times are moments.
func times(shapes []policy.Shape) (out []sample, err error) {
	var plain []policy.Shape
	for _, x := range shapes { // epoch seconds are moments too
		seconds, err := strconv.ParseInt(x.Text, 10, 64)
		if x.Kind == policy.NumberShape || x.Kind == policy.TextShape && err == nil && len(x.Text) < 12 {
			whole := time.Unix(int64(x.Number)+seconds, 0)
			plain = append(plain, policy.Shape{Kind: policy.InstantShape, Instant: whole})
			continue
		}
		plain = append(plain, x)
	}
	values, err := instants(plain)
	for _, v := range values {
		at, _ := time.Parse(time.RFC3339, v)
		out = append(out, sample{name: "at " + v, set: func(s *situation) { s.Now = at }})
	}
	return out, err
}

// credentials are those that last, and those that were issued once, with a second factor or
// without.
func credentials(of func(...policy.KeyID) []*test) (out []sample, err error) {
	issued, err := instants(shapesOf(of(policy.KeyTokenIssueTime)))
	if err != nil {
		return nil, err
	}
	ages, err := wholes(shapesOf(of(policy.KeyMultiFactorAuthAge)))
	if err != nil {
		return nil, err
	}
	out = append(out, sample{name: "long-term credentials", apart: lasting, set: func(*situation) {}})
	for _, v := range issued {
		at, _ := time.Parse(time.RFC3339, v)
		out = append(out, sample{name: "temporary credentials of " + v, set: func(s *situation) { s.Caller.TokenIssued = at }})
		for _, age := range ages {
			ago, _ := time.ParseDuration(age + "s")
			out = append(out, sample{name: "temporary credentials of " + v + ", with a second factor " + age + " s ago", set: func(s *situation) {
				s.Caller.TokenIssued, s.Caller.MFA = at, s.Now.Add(-ago)
			}})
		}
	}
	return out, nil
}

// organizations are those that the caller's account can be in, and where.
func organizations(of func(...policy.KeyID) []*test) (out []sample, err error) {
	var patterns []pattern
	var named []string
	for _, x := range shapesOf(of(policy.KeyPrincipalOrgID, policy.KeyPrincipalOrgPaths)) {
		if x.Kind > policy.PatternShape {
			return nil, errConstruct
		}
	}
	for _, x := range shapesOf(of(policy.KeyPrincipalOrgID)) { // an organization's id is the beginning of its paths
		id := literal(x.Text)
		if x.Kind == policy.PatternShape {
			id = patternOf(x.Pieces).within(noSlash)
		}
		patterns = append(patterns, joined(id, literal("/"), everything))
	}
	for _, x := range shapesOf(of(policy.KeyPrincipalOrgPaths)) {
		if x.Kind == policy.TextShape {
			named = append(named, x.Text)
		} else {
			patterns = append(patterns, patternOf(x.Pieces))
		}
	}
	path := joined(literal("o-"), some(word), literal("/r-"), some(word), literal("/"), pattern{{class: anyone, run: true}}, literal("/"))
	root := joined(literal("o-"), some(word), literal("/r-"), some(word), literal("/"))
	values, err := samples([]pattern{path, root}, patterns, named)
	for _, text := range named {
		if path.matches(text) || root.matches(text) {
			values = append(values, text)
		}
	}
	out = append(out, sample{})
	for _, v := range values {
		id, _, _ := strings.Cut(v, "/")
		out = append(out, sample{name: "in " + v, set: func(s *situation) { s.CallerOrg = authz.Membership{Organization: id, Paths: []string{v}} }})
	}
	return out, err
}

func piecesOf(text string) (out []policy.Piece) {
	for _, r := range text {
		out = append(out, policy.Piece{Rune: r})
	}
	return out
}

// maxProduct bounds how many samples are put together of others.
const maxProduct = 4000

// waysIn are the addresses that a call comes from, and the endpoints that it comes through.
func (s *space) waysIn(of func(...policy.KeyID) []*test) (out []sample, err error) {
	addresses, err := texts(address, shapesOf(of(policy.KeySourceIP)))
	if err != nil {
		return nil, err
	}
	for _, v := range addresses {
		out = append(out, sample{name: "from " + v, set: func(x *situation) { x.SourceIP = v }})
	}
	values := map[policy.KeyID][]string{}
	for _, id := range []policy.KeyID{policy.KeySourceVpce, policy.KeySourceVpc, policy.KeyVpcSourceIP, policy.KeyVpceAccount} {
		if values[id], err = valuesOf(policy.ConditionKey{ID: id}, of(id)); err != nil {
			return nil, err
		}
	}
	if len(of(policy.KeySourceVpcArn, policy.KeyVpceOrgID, policy.KeyVpceOrgPaths)) > 0 {
		return nil, errConstruct
	}
	if product := len(values[policy.KeySourceVpce]) * len(values[policy.KeySourceVpc]) * len(values[policy.KeyVpcSourceIP]) * len(values[policy.KeyVpceAccount]); product > maxProduct {
		return nil, errBudget
	}
	for _, endpoint := range values[policy.KeySourceVpce] {
		for _, vpc := range values[policy.KeySourceVpc] {
			for _, ip := range values[policy.KeyVpcSourceIP] {
				for _, owner := range values[policy.KeyVpceAccount] {
					out = append(out, sample{name: "through " + endpoint + " of " + vpc + " from " + ip, set: func(x *situation) {
						x.Through, x.SourceIP = &authz.Endpoint{ID: endpoint, VPC: vpc, Account: owner}, ip
					}})
				}
			}
		}
	}
	return out, nil
}

// forwardings are the services that forward a call: none, one, or one that was asked by
// another.
func (s *space) forwardings(of func(...policy.KeyID) []*test) (out []sample, err error) {
	domainSuffix := joined(literal(".amazonaws.com"))
	shapes := shapesOf(of(policy.KeyCalledVia, policy.KeyCalledViaFirst, policy.KeyCalledViaLast))
	end := "." + s.region + ".amazonaws.com"
	// What kms:ViaService asks of the name with the Region is asked of the name without.
	for _, x := range shapesOf(of(policy.KeyKMSViaService)) {
		switch x.Kind {
		case policy.TextShape:
			if base, ok := strings.CutSuffix(x.Text, end); ok {
				shapes = append(shapes, policy.Shape{Kind: policy.TextShape, Text: base + ".amazonaws.com"})
			}
		case policy.PatternShape:
			for _, begin := range before(x.Pieces, end) {
				shapes = append(shapes, policy.Shape{Kind: policy.PatternShape, Pieces: append(begin, piecesOf(".amazonaws.com")...)})
			}
		default:
			return nil, errConstruct
		}
	}
	services, err := texts(text, shapes, joined(some(word), domainSuffix))
	if err != nil {
		return nil, err
	}
	services = append(services, fresh(services, ".amazonaws.com"))
	chains := of(policy.KeyCalledVia, policy.KeyCalledViaFirst)
	if len(of(policy.KeyCalledVia, policy.KeyCalledViaFirst, policy.KeyCalledViaLast)) > 0 {
		for _, name := range slices.Clone(services) { // a chain may have a service by either of its names
			services = append(services, otherName(name, s.region))
		}
		services = distinct(services)
	}
	// Each test of all the services of a chain may need one in it that no other does; those
	// of the first and the last have theirs.
	inside := 0
	for _, t := range of(policy.KeyCalledVia) {
		if t.Quantifier() != policy.Absence {
			inside++
		}
	}
	out = append(out, sample{name: "not forwarded", apart: unforwarded, set: func(*situation) {}})
	add := func(via ...string) {
		out = append(out, sample{name: "forwarded by " + strings.Join(via, " and "), set: func(x *situation) { x.Via = via }})
	}
	total := len(services)
	for range inside + min(len(chains), 1) {
		if total *= len(services); total > maxProduct {
			return nil, errBudget
		}
	}
	var chain func(via []string, left int)
	chain = func(via []string, left int) {
		if len(via) > 0 {
			add(via...)
		}
		if left == 0 {
			return
		}
		for _, name := range services {
			chain(append(slices.Clip(via), name), left-1)
		}
	}
	chain(nil, 1+inside+min(len(chains), 1))
	return out, nil
}

// before are the patterns of what can stand before an end in a text that matches a pattern.
func before(pieces []policy.Piece, end string) (out [][]policy.Piece) {
	for i := range len(pieces) + 1 {
		if !patternOf(pieces[i:]).matches(end) {
			continue
		}
		n := i
		if i < len(pieces) && pieces[i].Run { // some of it may stand before
			n++
		}
		out = append(out, slices.Clone(pieces[:n]))
	}
	return out
}

// fresh is a name that is not one of some.
func fresh(names []string, end string) string {
	name := "other"
	for slices.Contains(names, name+end) {
		name += "x"
	}
	return name + end
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
