package sts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/stsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// AssumeRole makes a session of a role. The role's trust policy decides as a key
// policy does: it names the caller, or lets the identity policies of the
// caller's account decide.
func (s *Service) AssumeRole(ctx context.Context, call *iam.Call, in *stsapi.AssumeRoleRequest) (*stsapi.AssumeRoleResponse, error) {
	if err := call.AuthenticateMFA(ctx, s.db, in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	if len(in.ProvidedContexts) > 0 {
		return nil, model.NewFault("UnsupportedOperationException", 400, "ProvidedContexts is not supported.")
	}
	session := &iam.Session{Kind: policy.RoleSession, Name: *in.RoleSessionName, Issued: call.Now, SourceIdentity: sourceIdentity(call, in)}
	inherited := map[string]string{}
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		role, err := s.assumable(tx, call, in)
		if err != nil {
			return err
		}
		if err := ofRole(call, session, role, in.DurationSeconds); err != nil {
			return err
		}
		return limit(tx, session, in.Policy, in.PolicyArns)
	})
	if err != nil {
		return nil, err
	}
	if from := call.Credential.Session; from != nil {
		for _, k := range from.Transitive {
			inherited[k] = from.Tags[k]
		}
		session.Transitive = slices.Clone(from.Transitive)
	}
	if session.Tags, err = sessionTags(in.Tags, inherited); err != nil {
		return nil, err
	}
	if err := transitive(session, in.TransitiveTagKeys); err != nil {
		return nil, err
	}
	c, err := s.issue(session)
	out := &stsapi.AssumeRoleResponse{Credentials: c, PackedPolicySize: packed(session), AssumedRoleUser: assumedRole(session)}
	if session.SourceIdentity != "" {
		out.SourceIdentity = &session.SourceIdentity
	}
	return out, err
}

// ofRole makes a session one of a role, for as long as was asked.
func ofRole(call *iam.Call, s *iam.Session, role *iam.Entity, asked *int32) error {
	s.Account, s.Entity, s.EntityID, s.EntityARN = role.Account, role.Name, role.ID, role.ARN()
	seconds, err := duration(call, asked, role.MaxSession)
	s.Expires = call.Now.Add(time.Duration(seconds) * time.Second)
	s.Policies, s.PolicyARNs = nil, nil // of an attempt that a writer overtook
	return err
}

func assumedRole(s *iam.Session) *stsapi.AssumedRoleUser {
	return &stsapi.AssumedRoleUser{
		Arn:           new(arn.STS(iam.Partition, s.Account, "assumed-role/"+s.Entity+"/"+s.Name)),
		AssumedRoleId: new(s.EntityID + ":" + s.Name)}
}

// sourceIdentity is what the session's source identity will be: the one asked
// for, or the one the caller's session carries.
func sourceIdentity(call *iam.Call, in *stsapi.AssumeRoleRequest) string {
	if from := call.Credential.Session; from != nil && from.SourceIdentity != "" {
		return from.SourceIdentity
	}
	return model.Value(in.SourceIdentity)
}

// transitive notes which tags go on to further sessions.
func transitive(s *iam.Session, keys []string) error {
	for _, k := range keys {
		if _, ok := s.Tags[k]; !ok {
			return iam.ValidationError("The specified transitive tag key must be included in the requested tags.")
		}
		if !slices.Contains(s.Transitive, k) {
			s.Transitive = append(s.Transitive, k)
		}
	}
	return nil
}

// duration is how long the session lasts, in seconds.
func duration(call *iam.Call, asked *int32, longest int32) (int32, error) {
	if s := call.Credential.Session; s != nil && s.Kind == policy.RoleSession && model.Value(asked) > maxChained {
		return 0, iam.ValidationError("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	seconds := model.Or(asked, defaultRole)
	if asked != nil && seconds > longest {
		return 0, iam.ValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return min(seconds, longest), nil
}

// assumable finds the role if the caller may assume it. A role that does not
// exist and one that may not be assumed are refused alike.
func (s *Service) assumable(tx *store.Tx, call *iam.Call, in *stsapi.AssumeRoleRequest) (*iam.Entity, error) {
	c := &conditions{tags: setTags(in.Tags), transitive: in.TransitiveTagKeys, externalID: model.Value(in.ExternalId), sessionName: *in.RoleSessionName,
		sourceIdentity: sourceIdentity(call, in)}
	caller, err := call.Who(tx)
	if err != nil {
		return nil, err
	}
	if caller.Kind == policy.RootUser {
		return nil, iam.AccessDenied("Roles may not be assumed by root accounts.")
	}
	role, err := roleNamed(tx, *in.RoleArn)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	actions := []string{"sts:AssumeRole"}
	if len(in.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if c.sourceIdentity != "" { // carried on as well as set
		actions = append(actions, "sts:SetSourceIdentity")
	}
	if in.SourceIdentity != nil && *in.SourceIdentity != c.sourceIdentity {
		return nil, iam.AccessDenied("The source identity of a session cannot be changed.")
	}
	if role != nil {
		c.resource = role.TagMap()
	}
	for _, action := range actions {
		if err := s.trusts(tx, call, action, *in.RoleArn, role, c); err != nil {
			return nil, err
		}
	}
	if s := call.Credential.Session; s != nil && s.Kind == policy.FederatedSession {
		return nil, iam.AccessDenied("User: " + caller.ARN + " is not authorized to perform: sts:AssumeRole on resource: " + *in.RoleArn)
	}
	return role, nil
}

func (s *Service) trusts(tx *store.Tx, call *iam.Call, action, roleARN string, role *iam.Entity, c *conditions) error {
	q := iam.Query{Action: policy.MustAction(action), Resource: roleARN, Guarded: true, CrossAccount: true, Conditions: c, ResourceAccount: call.Account()}
	if role != nil {
		q.ResourcePolicy, q.ResourceAccount = role.TrustPolicy(), role.Account
	}
	d, req, err := call.Decide(tx, q)
	if err == nil && !d.Allowed() {
		plain := authz.Decision{} // STS does not say why
		err = iam.AccessDenied(plain.Refusal(req))
	}
	return err
}

func roleNamed(tx *store.Tx, roleARN string) (*iam.Entity, error) {
	a, err := arn.Parse(roleARN)
	if err != nil || !strings.HasPrefix(a.Resource, "role/") {
		return nil, iam.ValidationError(roleARN + " is invalid")
	}
	name := a.Resource[strings.LastIndexByte(a.Resource, '/')+1:]
	role, err := iam.FindEntity(tx, a.Account, iam.RoleClass, name)
	if err == nil && role.ARN() != roleARN {
		return nil, store.ErrNotFound
	}
	return role, err
}

// conditions are the STS condition keys of one request.
type conditions struct {
	tags           authz.RequestTags
	transitive     []string
	externalID     string
	sessionName    string
	sourceIdentity string
	resource       map[string]string // tags of the role
	token          *webToken         // nil without one
}

// Lookup answers sts: and tag keys.
func (c *conditions) Lookup(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeySTSExternalID:
		return policy.Optional(c.externalID)
	case policy.KeySTSRoleSessionName:
		return policy.Optional(c.sessionName)
	case policy.KeySTSSourceIdentity:
		return policy.Optional(c.sourceIdentity)
	case policy.KeySTSTransitiveTagKeys:
		return policy.OptionalMany(c.transitive)
	case policy.KeyRequestTag, policy.KeyTagKeys:
		return c.tags.Lookup(key)
	case policy.KeyResourceTag, policy.KeyIAMResourceTag:
		return authz.FoldLookup(c.resource, key.Suffix)
	case policy.KeyUnknown:
		return c.token.lookup(key.Suffix)
	default:
		return policy.Value{}
	}
}

// setTags are the tags that a request sets, for condition keys.
func setTags(tags []stsapi.Tag) authz.RequestTags {
	return authz.RequestTags{Set: authz.TagMap(tags, func(t stsapi.Tag) (string, string) { return *t.Key, *t.Value })}
}
