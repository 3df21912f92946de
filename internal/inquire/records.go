package inquire

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/audit"
)

// parameters are the condition keys that request parameters answer, by the parameters' names
// in records.
var parameters = map[string]string{
	"encryptionAlgorithm": "kms:EncryptionAlgorithm", "signingAlgorithm": "kms:SigningAlgorithm", "messageType": "kms:MessageType", "macAlgorithm": "kms:MacAlgorithm",
	"keyAgreementAlgorithm": "kms:KeyAgreementAlgorithm", "keyPairSpec": "kms:DataKeyPairSpec", "pendingWindowInDays": "kms:ScheduleKeyDeletionPendingWindowInDays",
	"bypassPolicyLockoutSafetyCheck": "kms:BypassPolicyLockoutSafetyCheck", "wrappingAlgorithm": "kms:WrappingAlgorithm", "wrappingKeySpec": "kms:WrappingKeySpec",
	"expirationModel": "kms:ExpirationModel", "validTo": "kms:ValidTo", "replicaRegion": "kms:ReplicaRegion", "primaryRegion": "kms:PrimaryRegion",
	"rotationPeriodInDays": "kms:RotationPeriodInDays", "granteePrincipal": "kms:GranteePrincipal", "granteeServicePrincipal": "kms:GranteeServicePrincipal",
	"retiringPrincipal": "kms:RetiringPrincipal", "retiringServicePrincipal": "kms:RetiringServicePrincipal", "operations": "kms:GrantOperations",
	"keySpec": "kms:KeySpec", "keyUsage": "kms:KeyUsage", "origin": "kms:KeyOrigin", "multiRegion": "kms:MultiRegion",
}

// ofCreation are parameters that say what a key is to be.
var ofCreation = []string{"keySpec", "keyUsage", "origin", "multiRegion"}

// Cases are the requests for authorization that a record tells of: one, but two of what uses
// two keys. A record of CloudTrail tells less than one of ours: policies that ask for what is
// not in it may decide otherwise. ok is false for records of other services, and of what has
// no caller.
func Cases(r *audit.Record) (cases []Case, ok bool) {
	if r.EventSource != "kms.amazonaws.com" || r.UserIdentity == nil || r.EventType != "AwsApiCall" {
		return nil, false
	}
	c, ok := caseOf(r)
	if !ok {
		return nil, false
	}
	var in map[string]any
	if len(r.RequestParameters) > 0 && json.Unmarshal(r.RequestParameters, &in) != nil {
		in = nil // nothing is known of them
	}
	for _, d := range decisions(r, in) {
		one := c
		one.Action, one.Key = d.Action, d.Resource
		if one.Key == "*" {
			one.Key = ""
		}
		one.Grant, _ = in["grantId"].(string)
		one.Given = append(slices.Clone(c.Given), given(in, d.Action)...)
		cases = append(cases, one)
	}
	return cases, len(cases) > 0
}

// decisions are those of a record, or that it must have come to.
func decisions(r *audit.Record, in map[string]any) (out []audit.Decision) {
	for _, d := range r.Claviger.Decisions {
		if !slices.ContainsFunc(out, func(o audit.Decision) bool { return o.Action == d.Action && o.Resource == d.Resource }) {
			out = append(out, d)
		}
	}
	if out != nil {
		return out
	}
	key, _ := in["keyId"].(string)
	var keys []string
	for _, resource := range r.Resources {
		if strings.Contains(resource.ARN, ":key/") {
			keys = append(keys, resource.ARN)
		}
	}
	if len(keys) > 0 {
		key = keys[0]
	}
	outcome := "Allowed"
	if strings.HasPrefix(r.ErrorCode, "AccessDenied") {
		outcome = "ImplicitDeny"
	}
	if r.EventName == "ReEncrypt" {
		from, to := key, key
		if len(keys) > 1 {
			to = keys[1]
		}
		if d, ok := in["destinationKeyId"].(string); ok && len(keys) < 2 {
			to = d
		}
		return []audit.Decision{{Action: "kms:ReEncryptFrom", Resource: from, Outcome: outcome}, {Action: "kms:ReEncryptTo", Resource: to, Outcome: outcome}}
	}
	return []audit.Decision{{Action: "kms:" + r.EventName, Resource: key, Outcome: outcome}}
}

// caseOf is what a record says about who asked, and how.
func caseOf(r *audit.Record) (c Case, ok bool) {
	id := r.UserIdentity
	c = Case{As: id.ARN, Region: r.AWSRegion, Now: r.EventTime, recorded: true}
	add := func(name, value string) {
		if value != "" {
			c.Given = append(c.Given, name+"="+value)
		}
	}
	switch {
	case id.Type == "AWSService" && id.InvokedBy != "":
		c.As = id.InvokedBy
	case id.Type == "AWSService":
		return c, false
	case r.Claviger.Around == nil && id.InvokedBy != "" && strings.HasSuffix(id.InvokedBy, ".amazonaws.com"):
		add("aws:CalledVia", id.InvokedBy)
	}
	if id.Type == "FederatedUser" && id.SessionContext != nil && id.SessionContext.SessionIssuer != nil && id.SessionContext.SessionIssuer.Type == "IAMUser" {
		c.Of = id.SessionContext.SessionIssuer.ARN
	}
	if r.SourceIPAddress != id.InvokedBy {
		add("aws:SourceIp", r.SourceIPAddress)
		add("aws:UserAgent", r.UserAgent)
	}
	add("aws:SourceVpce", r.VPCEndpointID)
	if r.Claviger.Plain {
		add("aws:SecureTransport", "false")
	}
	c.around(r.Claviger.Around, r.EventTime)
	if s := id.SessionContext; s != nil {
		add("aws:SourceIdentity", s.SourceIdentity)
		if at, _ := s.Attributes["creationDate"].(string); at != "" {
			add("aws:TokenIssueTime", at)
		}
		if mfa := fmt.Sprint(s.Attributes["mfaAuthenticated"]); mfa == "true" {
			add("aws:MultiFactorAuthPresent", mfa)
		}
	}
	return c, c.As != ""
}

// around takes up what a record of ours tells beside what one of CloudTrail does.
func (c *Case) around(a *audit.Around, at time.Time) {
	if a == nil {
		return
	}
	add := func(name, value string) {
		if value != "" {
			c.Given = append(c.Given, name+"="+value)
		}
	}
	for _, service := range a.Via {
		add("aws:CalledVia", service)
	}
	add("aws:SourceIp", a.SourceIP)
	add("aws:UserAgent", a.UserAgent)
	add("aws:Referer", a.Referer)
	add("aws:SourceArn", a.SourceArn)
	add("aws:SourceAccount", a.SourceAccount)
	add("aws:SourceVpc", a.VPC)
	add("aws:VpceAccount", a.VPCEAccount)
	add("aws:FederatedProvider", a.Provider)
	if !a.MFA.IsZero() {
		add("aws:MultiFactorAuthAge", strconv.Itoa(int(at.Sub(a.MFA)/time.Second)))
	}
	for _, k := range slices.Sorted(maps.Keys(a.Tags)) {
		c.Given = append(c.Given, "aws:PrincipalTag/"+k+"="+a.Tags[k])
	}
	c.SessionOnly, c.SessionARNs = a.Limited, a.PolicyARNs
	for i, text := range a.Policies {
		c.Session = append(c.Session, Text{fmt.Sprint("session policy ", i+1), text})
	}
}

// given are the values of condition keys that follow from a request's parameters.
func given(in map[string]any, action string) (out []string) {
	add := func(name string, v any) {
		switch v := v.(type) {
		case string:
			out = append(out, name+"="+v)
		case bool:
			out = append(out, name+"="+strconv.FormatBool(v))
		case float64:
			out = append(out, name+"="+strconv.FormatFloat(v, 'f', -1, 64))
		case []any:
			for _, one := range v {
				out = append(out, fmt.Sprint(name, "=", one))
			}
		}
	}
	pairs := func(v any) {
		m, _ := v.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			add("kms:EncryptionContext:"+k, m[k])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		v := in[name]
		if key := parameters[name]; key != "" && (action == "kms:CreateKey" || !slices.Contains(ofCreation, name)) {
			if name == "validTo" {
				v = moment(v)
			}
			add(key, v)
		}
	}
	switch action {
	case "kms:ReEncryptFrom":
		pairs(in["sourceEncryptionContext"])
		add("kms:EncryptionAlgorithm", in["sourceEncryptionAlgorithm"])
	case "kms:ReEncryptTo":
		pairs(in["destinationEncryptionContext"])
		add("kms:EncryptionAlgorithm", in["destinationEncryptionAlgorithm"])
	default:
		pairs(in["encryptionContext"])
	}
	constraints, _ := in["constraints"].(map[string]any)
	for _, kind := range []string{"EncryptionContextEquals", "EncryptionContextSubset"} {
		if v, ok := constraints[strings.ToLower(kind[:1])+kind[1:]]; ok {
			add("kms:GrantConstraintType", kind)
			pairs(v)
		}
	}
	add("kms:GrantConstraintSourceArn", constraints["sourceArn"])
	tags, _ := in["tags"].([]any)
	for _, t := range tags {
		if m, ok := t.(map[string]any); ok {
			add(fmt.Sprint("aws:RequestTag/", m["tagKey"]), m["tagValue"])
		}
	}
	add("aws:TagKeys", in["tagKeys"])
	if name, _ := in["keyId"].(string); strings.Contains(name, "alias/") {
		add("kms:RequestAlias", name[strings.Index(name, "alias/"):])
	}
	return out
}

// moment is a time of a record, as condition keys have it.
func moment(v any) any {
	if seconds, ok := v.(float64); ok {
		return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
	}
	return v
}

// A Recorded is the explanation of a request that is on record.
type Recorded struct {
	RequestID   string
	Time        time.Time
	EventName   string
	ErrorCode   string           `json:",omitzero"`
	Decisions   []audit.Decision // as they were made
	Now         []*Explanation   // by the policies of now; none for requests of other services
	NotNow      []string         `json:",omitzero"` // why one cannot be explained by them
	Differently bool             `json:",omitzero"` // it would be decided otherwise now
}

// Recorded explains a request that is on record.
func (w *World) Recorded(ctx context.Context, r *audit.Record) (*Recorded, error) {
	out := &Recorded{RequestID: r.RequestID, Time: r.EventTime, EventName: r.EventName, ErrorCode: r.ErrorCode, Decisions: r.Claviger.Decisions}
	cases, _ := Cases(r)
	was := map[string]string{}
	for _, d := range r.Claviger.Decisions {
		was[d.Action+" "+d.Resource] = d.Outcome
	}
	for _, c := range cases {
		e, err := w.Explain(ctx, c)
		if errors.Is(err, ErrQuestion) {
			out.NotNow = append(out.NotNow, err.Error())
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Now = append(out.Now, e)
		before, known := was[e.Action+" "+e.Resource]
		out.Differently = out.Differently || known && before != e.Outcome
	}
	return out, nil
}
