// Package sts is the Security Token Service: who am I, assume a role, and
// temporary credentials.
package sts

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/stsapi"
	"github.com/claviger/claviger/internal/oidc"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Service is the STS API. It is safe for concurrent use.
type Service struct {
	db        *store.DB
	directory *iam.Directory
	tokens    *oidc.Verifier
}

// NewService makes the STS API over db, issuing through directory. It tells logger
// of identity providers that cannot be asked.
func NewService(db *store.DB, directory *iam.Directory, logger *slog.Logger) *Service {
	return &Service{db, directory, oidc.NewVerifier(logger)}
}

// GetCallerIdentity tells who calls. It needs no permission.
func (s *Service) GetCallerIdentity(ctx context.Context, call *iam.Call, _ *stsapi.GetCallerIdentityRequest) (*stsapi.GetCallerIdentityResponse, error) {
	var out stsapi.GetCallerIdentityResponse
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		c, err := call.Who(tx)
		out = stsapi.GetCallerIdentityResponse{UserId: &c.UserID, Account: &c.Account, Arn: &c.ARN}
		return err
	})
	return &out, err
}

// GetAccessKeyInfo tells the account of an access key.
func (s *Service) GetAccessKeyInfo(ctx context.Context, call *iam.Call, in *stsapi.GetAccessKeyInfoRequest) (*stsapi.GetAccessKeyInfoResponse, error) {
	var out stsapi.GetAccessKeyInfoResponse
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := allow(tx, call, "sts:GetAccessKeyInfo", "*", nil); err != nil {
			return err
		}
		account, _, err := iam.FindAccessKey(tx, *in.AccessKeyId)
		if errors.Is(err, store.ErrNotFound) {
			return iam.ValidationError("The access key ID provided does not exist in our records.")
		}
		out.Account = &account
		return err
	})
	return &out, err
}

func allow(tx *store.Tx, call *iam.Call, action, resource string, c policy.Context) error {
	d, req, err := call.Decide(tx, iam.Query{
		Action: policy.MustAction(action), Resource: resource, ResourceAccount: call.Account(), Conditions: c})
	if err == nil && !d.Allowed() {
		err = iam.AccessDenied(d.Refusal(req))
	}
	return err
}

// Lengths of sessions, in seconds.
const (
	defaultRole      = 3600
	maxChained       = 3600
	defaultSession   = 43200
	maxRootSession   = 3600
	maxSessionPolicy = 2048 // characters
	maxSessionTags   = 50
)

// GetSessionToken makes temporary credentials of a user or the root user. It
// needs no permission.
func (s *Service) GetSessionToken(ctx context.Context, call *iam.Call, in *stsapi.GetSessionTokenRequest) (*stsapi.GetSessionTokenResponse, error) {
	if call.Credential.Session != nil {
		return nil, iam.AccessDenied("Cannot call GetSessionToken with session credentials")
	}
	if err := call.AuthenticateMFA(ctx, s.db, in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	session, err := s.own(ctx, call, model.Or(in.DurationSeconds, defaultSession))
	if err != nil {
		return nil, err
	}
	session.MFA = call.MFA
	c, err := s.issue(session)
	return &stsapi.GetSessionTokenResponse{Credentials: c}, err
}

// own begins a session of the caller itself.
func (s *Service) own(ctx context.Context, call *iam.Call, seconds int32) (*iam.Session, error) {
	session := &iam.Session{Account: call.Account(), Issued: call.Now}
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		c, err := call.Who(tx)
		session.Kind, session.EntityID, session.Entity, session.EntityARN = c.Kind, c.EntityID, c.UserName, c.EntityARN
		return err
	})
	if session.Kind == policy.RootUser {
		seconds = min(seconds, maxRootSession)
	}
	session.Expires = call.Now.Add(time.Duration(seconds) * time.Second)
	return session, err
}

func (s *Service) issue(session *iam.Session) (*stsapi.Credentials, error) {
	token, err := s.directory.Issue(session)
	if err != nil {
		return nil, err
	}
	return &stsapi.Credentials{AccessKeyId: &session.AccessKeyID, SecretAccessKey: new(string(session.Secret)), SessionToken: &token,
		Expiration: model.At(session.Expires)}, nil
}

// GetFederationToken makes credentials for a federated user within the
// permissions of the caller, a user or the root user.
func (s *Service) GetFederationToken(ctx context.Context, call *iam.Call, in *stsapi.GetFederationTokenRequest) (*stsapi.GetFederationTokenResponse, error) {
	if call.Credential.Session != nil {
		return nil, iam.AccessDenied("Cannot call GetFederationToken with session credentials")
	}
	session, err := s.own(ctx, call, model.Or(in.DurationSeconds, defaultSession))
	if err != nil {
		return nil, err
	}
	session.Kind, session.Name, session.Limited = policy.FederatedSession, *in.Name, true
	user := arn.STS(iam.Partition, call.Account(), "federated-user/"+session.Name)
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := allow(tx, call, "sts:GetFederationToken", user, &conditions{tags: setTags(in.Tags)}); err != nil {
			return err
		}
		if len(in.Tags) > 0 {
			if err := allow(tx, call, "sts:TagSession", user, &conditions{tags: setTags(in.Tags)}); err != nil {
				return err
			}
		}
		session.Policies, session.PolicyARNs = nil, nil
		return limit(tx, session, in.Policy, in.PolicyArns)
	})
	if err != nil {
		return nil, err
	}
	if session.Tags, err = sessionTags(in.Tags, nil); err != nil {
		return nil, err
	}
	c, err := s.issue(session)
	return &stsapi.GetFederationTokenResponse{Credentials: c, PackedPolicySize: packed(session),
		FederatedUser: &stsapi.FederatedUser{Arn: &user, FederatedUserId: new(call.Account() + ":" + session.Name)}}, err
}

// limit gives a session its session policies.
func limit(tx *store.Tx, s *iam.Session, document *string, arns []stsapi.PolicyDescriptorType) error {
	if len(arns) > 10 {
		return iam.ValidationError("The requested number of session policy ARNs exceeds 10")
	}
	if document != nil {
		if len(*document) > maxSessionPolicy {
			return stsapi.PackedPolicyTooLargeException("The session policy is longer than 2048 characters")
		}
		doc, err := policy.Parse([]byte(*document))
		if err == nil {
			err = policy.Validate(doc, policy.Identity)
		}
		if err != nil {
			return stsapi.MalformedPolicyDocumentException(iam.Grammar(err)).Because(err)
		}
		s.Policies = []string{*document}
	}
	for _, d := range arns {
		a := model.Value(d.Arn)
		if ok, err := iam.ManagedExists(tx, s.Account, a); err != nil {
			return err
		} else if !ok {
			return stsapi.MalformedPolicyDocumentException("Policy " + a + " does not exist or is not attachable.")
		}
		s.PolicyARNs = append(s.PolicyARNs, a)
	}
	s.Limited = s.Limited || document != nil || len(arns) > 0
	return nil
}

// packed is how much of the room for session policies and tags is used, in per cent.
func packed(s *iam.Session) *int32 {
	if len(s.Policies)+len(s.PolicyARNs)+len(s.Tags) == 0 {
		return nil
	}
	n := 0
	for _, p := range s.Policies {
		n += len(p)
	}
	for _, a := range s.PolicyARNs {
		n += len(a)
	}
	for k, v := range s.Tags {
		n += len(k) + len(v)
	}
	return new(int32(min(100, 1+n*100/(2*maxSessionPolicy))))
}

// sessionTags are the tags of a new session; inherited ones cannot be changed.
func sessionTags(tags []stsapi.Tag, inherited map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range inherited {
		out[k] = v
	}
	for _, t := range tags {
		if authz.FoldLookup(out, *t.Key).Present {
			return nil, iam.ValidationError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return nil, iam.ValidationError("The prefix aws: is reserved for AWS use and cannot be used in tag keys.")
		}
		out[*t.Key] = *t.Value
	}
	if len(out) > maxSessionTags {
		return nil, iam.ValidationError("The session has more than 50 tags, those it inherits included.")
	}
	return out, nil
}
