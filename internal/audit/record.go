// Package audit is the audit log: one JSON line for each request in the shape
// of a CloudTrail record, with the decision and its reasons, hash-chained. A
// record is handed to the operating system before the answer leaves, and synced
// to disk within SyncInterval.
//
// A request that changes state leaves two lines: the intent before the change
// takes effect, the outcome after it.
package audit

import (
	"encoding/json/jsontext"
	"time"
)

// A Record is one line. Members are CloudTrail's but for Claviger, which is ours.
type Record struct {
	EventVersion       string         `json:"eventVersion"`
	UserIdentity       *Identity      `json:"userIdentity"`
	EventTime          time.Time      `json:"eventTime"`
	EventSource        string         `json:"eventSource"` // kms.amazonaws.com
	EventName          string         `json:"eventName"`
	AWSRegion          string         `json:"awsRegion"`
	SourceIPAddress    string         `json:"sourceIPAddress"`
	UserAgent          string         `json:"userAgent"`
	ErrorCode          string         `json:"errorCode,omitzero"`
	ErrorMessage       string         `json:"errorMessage,omitzero"`
	RequestParameters  jsontext.Value `json:"requestParameters,omitzero"` // without secrets
	ResponseElements   jsontext.Value `json:"responseElements,omitzero"`
	RequestID          string         `json:"requestID"`
	EventID            string         `json:"eventID"`
	ReadOnly           bool           `json:"readOnly"`
	Resources          []Resource     `json:"resources,omitzero"`
	VPCEndpointID      string         `json:"vpcEndpointId,omitzero"`
	EventType          string         `json:"eventType"` // AwsApiCall
	ManagementEvent    bool           `json:"managementEvent"`
	RecipientAccountID string         `json:"recipientAccountId,omitzero"`
	EventCategory      string         `json:"eventCategory"` // Management
	Claviger           Extra          `json:"claviger"`
}

// An Identity says who called.
type Identity struct {
	Type           string   `json:"type"` // Root, IAMUser, AssumedRole, FederatedUser, AWSService, WebIdentityUser
	PrincipalID    string   `json:"principalId,omitzero"`
	ARN            string   `json:"arn,omitzero"`
	AccountID      string   `json:"accountId,omitzero"`
	AccessKeyID    string   `json:"accessKeyId,omitzero"`
	UserName       string   `json:"userName,omitzero"`
	InvokedBy      string   `json:"invokedBy,omitzero"` // the service that called, or forwarded the call
	SessionContext *Session `json:"sessionContext,omitzero"`
}

// A Session says how temporary credentials came about.
type Session struct {
	SessionIssuer  *Issuer        `json:"sessionIssuer,omitzero"`
	Attributes     map[string]any `json:"attributes,omitzero"`
	SourceIdentity string         `json:"sourceIdentity,omitzero"`
}

// An Issuer is the role or user behind a session.
type Issuer struct {
	Type        string `json:"type"` // Role or IAMUser
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// A Resource is what the request was about.
type Resource struct {
	AccountID string `json:"accountId,omitzero"`
	Type      string `json:"type"` // AWS::KMS::Key
	ARN       string `json:"ARN"`
}

// A Phase tells the lines of a state change apart.
type Phase string

// The phases. A request that changes nothing has the empty phase.
const (
	Intent  Phase = "intent"
	Outcome Phase = "outcome"
	// Settled is the outcome of an earlier run's intent, found at start.
	Settled Phase = "settled"
)

// An Extra is what CloudTrail has no member for. Previous chains the lines: it
// is the SHA-256 of the line before, in hexadecimal.
type Extra struct {
	Sequence  uint64 `json:"sequence"` // counts lines from 1
	Previous  string `json:"previous"`
	Phase     Phase  `json:"phase,omitzero"`
	Committed *bool  `json:"committed,omitzero"` // of an outcome: whether the change took effect; absent when it cannot be known
	// Commit is where an outcome is among the changes of all nodes; nil if the store is not
	// shared, or if that is not known.
	Commit *Commit `json:"commit,omitzero"`
	// Checkpoint is the signed end of the log before this line (C2SP tlog-checkpoint).
	Checkpoint string     `json:"checkpoint,omitzero"`
	Decisions  []Decision `json:"decisions,omitzero"`
	Plain      bool       `json:"plain,omitzero"`  // the request came without TLS
	Around     *Around    `json:"around,omitzero"` // nil if there is nothing else that policies can ask
}

// A Commit is the place of a change in the order of a store's changes.
type Commit struct {
	Epoch    string `json:"epoch"`    // of the store: revisions of another one say nothing
	Revision int64  `json:"revision"` // grows from change to change; some that do not conflict share one
}

// Before reports whether a change came before another one, if that can be told.
func (c *Commit) Before(other *Commit) (before, known bool) {
	if c == nil || other == nil || c.Epoch != other.Epoch {
		return false, false
	}
	return c.Revision < other.Revision, true
}

// An Around is what policies can ask about a request that no other member tells.
type Around struct {
	Via           []string          `json:"via,omitzero"` // the services that forwarded it, the last to us
	SourceIP      string            `json:"sourceIp,omitzero"`
	UserAgent     string            `json:"userAgent,omitzero"`
	Referer       string            `json:"referer,omitzero"`
	SourceArn     string            `json:"sourceArn,omitzero"`
	SourceAccount string            `json:"sourceAccount,omitzero"`
	VPC           string            `json:"vpc,omitzero"`
	VPCEAccount   string            `json:"vpceAccount,omitzero"`
	MFA           time.Time         `json:"mfa,omitzero"` // when a second factor was given
	Provider      string            `json:"provider,omitzero"`
	Tags          map[string]string `json:"tags,omitzero"` // of the session
	Limited       bool              `json:"limited,omitzero"`
	Policies      []string          `json:"policies,omitzero"` // of the session
	PolicyARNs    []string          `json:"policyArns,omitzero"`
}

// A Decision is one authorization with its reason.
type Decision struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
	Outcome  string `json:"outcome"` // Allowed, ImplicitDeny, ExplicitDeny
	Layer    string `json:"layer,omitzero"`
	By       string `json:"by,omitzero"`      // the statement that decided
	Via      string `json:"via,omitzero"`     // the key policy's statement that let an identity policy in
	Missing  string `json:"missing,omitzero"` // the type of policy that lacks an Allow
}
