package trail

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/trailapi"
)

// The work of one request: how much of the log it reads, and how long its answer gets.
const (
	maxLines  = 10_000
	maxRead   = 32 << 20 // bytes
	maxAnswer = 1 << 20  // bytes of events, but for the last one
)

// globalRegion is where the events of services without Regions are.
const globalRegion = "us-east-1"

var global = []string{"iam.amazonaws.com", "sts.amazonaws.com", "organizations.amazonaws.com"}

// A page is what one log has for an answer, while it is read for it, backwards.
type page struct {
	*query
	place

	lines, read, answer int
	found               []found
	more                bool // the log goes on where the page ends
}

// next looks at the line before those it has seen.
func (p *page) next(line []byte, begin audit.Place) bool {
	p.lines, p.read, p.At = p.lines+1, p.read+len(line), begin
	if p.tooOld(line) {
		return false
	}
	if r, line, ok := p.shown(line); ok {
		e := event(r, line)
		p.answer += len(*e.CloudTrailEvent)
		p.found = append(p.found, found{e, place{At: begin, Settled: slices.Clone(p.Settled)}})
	}
	p.more = len(p.found) >= p.Limit || p.lines >= maxLines || p.read >= maxRead || p.answer >= maxAnswer
	return !p.more
}

// tooOld reports whether all that stands before the line is of before the start.
func (p *page) tooOld(line []byte) bool {
	_, text, _ := bytes.Cut(line, []byte(`"eventTime":"`))
	text, _, _ = bytes.Cut(text, []byte(`"`))
	at, err := time.Parse(time.RFC3339, string(text))
	return err == nil && at.Add(audit.Unordered).Before(p.Start) && !bytes.Contains(line, []byte(`"phase":"settled"`))
}

// shown decodes a line and reports whether it is an event that was asked for, with the line
// as the account may see it. Of a state
// change the outcome is shown, and not the intent.
func (p *page) shown(line []byte) (*audit.Record, []byte, bool) {
	var r audit.Record
	if !bytes.Contains(line, []byte(p.Account)) || // most lines, where there are many accounts
		json.Unmarshal(line, &r) != nil || r.RecipientAccountID != p.Account && !p.owns(&r) || regionOf(&r) != p.Region || p.superseded(&r) {
		return nil, nil, false
	}
	if r.EventTime.Before(p.Start) || r.EventTime.After(p.End) {
		return nil, nil, false
	}
	if r.RecipientAccountID != p.Account {
		line = p.ownersCopy(&r)
	}
	if p.Key != "" && !attributes[p.Key](&r, p.Value) {
		return nil, nil, false
	}
	return &r, line, true
}

// owns reports whether another account has used something of this one, which CloudTrail
// records in both. That a refused use is recorded for the caller alone is UNVERIFIED.
func (p *page) owns(r *audit.Record) bool {
	return r.ErrorCode == "" && slices.ContainsFunc(r.Resources, func(about audit.Resource) bool { return about.AccountID == p.Account })
}

// ownersCopy makes r the record that the owner of a resource gets of another account's use:
// it says which account called, and not who in it.
func (p *page) ownersCopy(r *audit.Record) []byte {
	if id := r.UserIdentity; id != nil {
		principal, _, _ := strings.Cut(id.PrincipalID, ":") // without the name of a session
		r.UserIdentity = &audit.Identity{Type: "AWSAccount", PrincipalID: principal, AccountID: id.AccountID}
	}
	mine := slices.DeleteFunc(slices.Clone(r.Resources), func(about audit.Resource) bool { return about.AccountID != p.Account })
	if len(mine) < len(r.Resources) { // what the request says of the others' is theirs
		r.Resources, r.RequestParameters, r.ResponseElements = mine, nil, nil
	}
	r.RecipientAccountID = p.Account
	line, err := json.Marshal(r)
	if err != nil {
		return nil // which is shown as an event without its text
	}
	return line
}

// superseded reports whether a line of the state change that stands behind r tells how
// it ended.
func (p *page) superseded(r *audit.Record) bool {
	known := func(id string) bool { return id == r.RequestID }
	switch r.Claviger.Phase {
	case audit.Intent:
		p.Settled = slices.DeleteFunc(p.Settled, known)
		return true
	case audit.Settled:
		p.Settled = append(p.Settled, r.RequestID)
		return false
	default:
		return slices.ContainsFunc(p.Settled, known)
	}
}

func regionOf(r *audit.Record) string {
	if slices.Contains(global, r.EventSource) {
		return globalRegion
	}
	return r.AWSRegion
}

// attributes say for each lookup attribute whether a record has it with a value.
var attributes = map[string]func(r *audit.Record, value string) bool{
	trailapi.LookupAttributeKeyEventId:     func(r *audit.Record, v string) bool { return r.EventID == v },
	trailapi.LookupAttributeKeyEventName:   func(r *audit.Record, v string) bool { return r.EventName == v },
	trailapi.LookupAttributeKeyEventSource: func(r *audit.Record, v string) bool { return r.EventSource == v },
	trailapi.LookupAttributeKeyReadOnly:    func(r *audit.Record, v string) bool { return strconv.FormatBool(r.ReadOnly) == v },
	trailapi.LookupAttributeKeyUsername:    func(r *audit.Record, v string) bool { return username(r) == v },
	trailapi.LookupAttributeKeyAccessKeyId: func(r *audit.Record, v string) bool { return r.UserIdentity != nil && r.UserIdentity.AccessKeyID == v },
	trailapi.LookupAttributeKeyResourceType: func(r *audit.Record, v string) bool {
		return slices.ContainsFunc(r.Resources, func(about audit.Resource) bool { return about.Type == v })
	},
	trailapi.LookupAttributeKeyResourceName: func(r *audit.Record, v string) bool {
		return slices.ContainsFunc(r.Resources, func(about audit.Resource) bool { return about.ARN == v })
	},
}

// username is the caller as CloudTrail's event history lists it: a session by its own
// name; a service has none.
func username(r *audit.Record) string {
	id := r.UserIdentity
	switch {
	case id == nil:
		return ""
	case id.UserName != "":
		return id.UserName
	case id.Type == "Root":
		return "root"
	case id.Type == "AssumedRole" || id.Type == "FederatedUser":
		return id.ARN[strings.LastIndexByte(id.ARN, '/')+1:]
	default:
		return ""
	}
}

func event(r *audit.Record, line []byte) trailapi.Event {
	e := trailapi.Event{EventId: &r.EventID, EventName: &r.EventName, ReadOnly: new(strconv.FormatBool(r.ReadOnly)), EventTime: &model.Time{Time: r.EventTime},
		EventSource: &r.EventSource, Username: optional(username(r)), Resources: []trailapi.Resource{}, CloudTrailEvent: new(plain(line))}
	if r.UserIdentity != nil {
		e.AccessKeyId = optional(r.UserIdentity.AccessKeyID)
	}
	for _, about := range r.Resources {
		e.Resources = append(e.Resources, trailapi.Resource{ResourceType: &about.Type, ResourceName: &about.ARN})
	}
	return e
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// plain is a line without what CloudTrail has no member for; what is no record is empty.
func plain(line []byte) string {
	d := jsontext.NewDecoder(bytes.NewReader(line))
	if _, err := d.ReadToken(); err != nil || line[0] != '{' {
		return ""
	}
	out := make([]byte, 1, len(line))
	out[0] = '{'
	for d.PeekKind() != '}' {
		at := len(out)
		if at > 1 {
			out = append(out, ',')
		}
		name, err := d.ReadValue()
		if err != nil {
			return ""
		}
		ours := string(name) == `"claviger"`
		out = append(append(out, name...), ':')
		value, err := d.ReadValue()
		if err != nil {
			return ""
		}
		if out = append(out, value...); ours {
			out = out[:at]
		}
	}
	return string(append(out, '}'))
}
