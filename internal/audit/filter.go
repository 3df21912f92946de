package audit

import (
	"slices"
	"strings"
	"time"
)

// A Filter says which records are meant: those that all its members apply to. An empty
// member applies to every record.
type Filter struct {
	Since, Until time.Time // both included
	EventName    string
	EventSource  string // kms, or kms.amazonaws.com
	User         string // part of the caller's ARN, or of the service that calls
	Key          string // a KMS key's id or ARN
	Error        string // an error code, with Exception at its end or without
	RequestID    string
	Account      string // the caller's, or that of a resource
}

// Match reports whether r is meant.
func (f *Filter) Match(r *Record) bool {
	id := r.UserIdentity
	if id == nil {
		id = &Identity{}
	}
	return !r.EventTime.Before(f.Since) && (f.Until.IsZero() || !r.EventTime.After(f.Until)) &&
		is(f.EventName, r.EventName) && is(f.RequestID, r.RequestID) && is(strings.TrimSuffix(f.Error, "Exception"), strings.TrimSuffix(r.ErrorCode, "Exception")) &&
		(is(f.EventSource, r.EventSource) || f.EventSource+".amazonaws.com" == r.EventSource) &&
		(strings.Contains(id.ARN, f.User) || strings.Contains(id.InvokedBy, f.User)) &&
		(f.Key == "" || slices.ContainsFunc(r.Resources, f.isKey)) &&
		(is(f.Account, r.RecipientAccountID) || is(f.Account, id.AccountID) || slices.ContainsFunc(r.Resources, f.isOfAccount))
}

func is(want, got string) bool { return want == "" || want == got }

func (f *Filter) isKey(r Resource) bool {
	return r.ARN == f.Key || strings.HasSuffix(r.ARN, ":key/"+f.Key)
}

func (f *Filter) isOfAccount(r Resource) bool { return r.AccountID == f.Account }
