package inquire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
)

// circumstances are what a case says about a request beside who asks for what.
type circumstances struct {
	call       iam.Call // how it comes in
	hypothesis kms.Hypothesis

	mfaAge   time.Duration
	mfa      bool
	issued   time.Time
	source   string            // aws:SourceIdentity
	provider string            // aws:FederatedProvider
	tags     map[string]string // aws:PrincipalTag
}

// derived are condition keys that follow from who asks, and from what is asked.
var derived = []policy.KeyID{policy.KeyPrincipalAccount, policy.KeyPrincipalArn, policy.KeyPrincipalIsAWSService, policy.KeyPrincipalOrgID, policy.KeyPrincipalOrgPaths,
	policy.KeyPrincipalServiceName, policy.KeyPrincipalServiceNamesList, policy.KeyPrincipalType, policy.KeyResourceAccount, policy.KeyResourceOrgID,
	policy.KeyResourceOrgPaths, policy.KeySourceOrgID, policy.KeySourceOrgPaths, policy.KeyUserid, policy.KeyUsername, policy.KeyViaAWSService, policy.KeyKMSCallerAccount,
	policy.KeyCalledViaFirst, policy.KeyCalledViaLast, policy.KeyVpceOrgID, policy.KeyVpceOrgPaths, policy.KeyKMSEncryptionContextKeys}

// set takes up that a condition key has a value, written NAME=VALUE; a key with several
// values is set several times.
func (c *circumstances) set(pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok || name == "" {
		return fmt.Errorf("inquire: %q is not KEY=VALUE", pair)
	}
	key := policy.KeyNamed(name)
	var err error
	switch {
	case key.ID == policy.KeyUnknown:
		err = fmt.Errorf("inquire: there is no condition key %s", name)
	case slices.Contains(derived, key.ID):
		err = fmt.Errorf("inquire: %s follows from the rest of the request", name)
	default:
		err = c.put(key, value)
	}
	return err
}

func (c *circumstances) put(key policy.ConditionKey, value string) (err error) {
	e := func() *iam.Endpoint {
		if c.call.Through == nil {
			c.call.Through = &iam.Endpoint{}
		}
		return c.call.Through
	}
	switch key.ID {
	case policy.KeyCurrentTime:
		c.call.Now, err = time.Parse(time.RFC3339, value)
	case policy.KeyEpochTime:
		var seconds int64
		seconds, err = strconv.ParseInt(value, 10, 64)
		c.call.Now = time.Unix(seconds, 0).UTC()
	case policy.KeySourceIP, policy.KeyVpcSourceIP:
		c.call.SourceIP = value
	case policy.KeyUserAgent:
		c.call.UserAgent = value
	case policy.KeyReferer:
		c.call.Referer = value
	case policy.KeySecureTransport:
		c.call.Secure, err = strconv.ParseBool(value)
	case policy.KeyRequestedRegion:
		c.call.Region = value
	case policy.KeySourceArn:
		c.call.SourceArn = value
	case policy.KeySourceAccount:
		c.call.SourceAccount = value
	case policy.KeyCalledVia:
		c.call.Via = append(c.call.Via, value)
	case policy.KeyKMSViaService:
		label, _, _ := strings.Cut(value, ".")
		c.call.Via = append(c.call.Via, label+".amazonaws.com")
	case policy.KeySourceVpce:
		e().ID = value
	case policy.KeySourceVpc:
		e().VPC = value
	case policy.KeyVpceAccount:
		e().Account = value
	case policy.KeyMultiFactorAuthPresent:
		c.mfa, err = strconv.ParseBool(value)
	case policy.KeyMultiFactorAuthAge:
		var seconds int64
		seconds, err = strconv.ParseInt(value, 10, 32)
		c.mfa, c.mfaAge = true, time.Duration(seconds)*time.Second
	case policy.KeyTokenIssueTime:
		c.issued, err = time.Parse(time.RFC3339, value)
	case policy.KeySourceIdentity:
		c.source = value
	case policy.KeyFederatedProvider:
		c.provider = value
	case policy.KeyPrincipalTag:
		put(&c.tags, key.Suffix, value)
	case policy.KeyKMSEncryptionContext:
		put(&c.hypothesis.Context, key.Suffix, value)
	case policy.KeyRequestTag:
		put(&c.hypothesis.Tags.Set, key.Suffix, value)
	case policy.KeyTagKeys:
		c.hypothesis.Tags.Removed = append(c.hypothesis.Tags.Removed, value)
	default:
		if _, name, ok := strings.Cut(value, ":alias/"); ok && key.ID == policy.KeyKMSRequestAlias {
			value = "alias/" + name // AUTH-8.18
		}
		name := strings.ToLower(key.String())
		if c.hypothesis.Values == nil {
			c.hypothesis.Values = map[string][]string{}
		}
		c.hypothesis.Values[name] = append(c.hypothesis.Values[name], value)
	}
	if err != nil {
		err = fmt.Errorf("inquire: %s: %q is no value for it", key, value)
	}
	return err
}

func put(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	for k := range *m { // the last one counts, however the key is written
		if strings.EqualFold(k, key) {
			delete(*m, k)
		}
	}
	(*m)[key] = value
}

// apply tells a supposed session what it is.
func (c *circumstances) apply(s *iam.Session) {
	s.Tags, s.SourceIdentity, s.Provider, s.Issued = c.tags, c.source, c.provider, c.issued
	if s.Kind == policy.RoleSession && s.Issued.IsZero() || s.Kind == policy.FederatedSession && s.Issued.IsZero() {
		s.Issued = c.call.Now
	}
	if c.mfa {
		s.MFA = c.call.Now.Add(-c.mfaAge)
	}
}
