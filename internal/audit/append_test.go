package audit

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"testing"
	"time"
)

// TestAppendIsMarshal holds the hand-written encoder to the general one.
func TestAppendIsMarshal(t *testing.T) {
	yes := true
	full := Record{
		EventVersion: "1.11", EventTime: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC), EventSource: "kms.amazonaws.com", EventName: "Encrypt",
		AWSRegion: "us-east-1", SourceIPAddress: "::1", UserAgent: "a \"quoted\" <agent>\u2028", ErrorCode: "X", ErrorMessage: "é",
		RequestParameters: jsontext.Value(`{"a":1}`), ResponseElements: jsontext.Value(`null`), RequestID: "r", EventID: "e", ReadOnly: true,
		Resources: []Resource{{"1", "T", "A"}, {"", "T", "B"}}, EventType: "AwsApiCall", RecipientAccountID: "1", EventCategory: "Management",
		UserIdentity: &Identity{Type: "IAMUser", PrincipalID: "p", ARN: "a", AccountID: "1", AccessKeyID: "k", UserName: "n"},
		Claviger: Extra{Sequence: 7, Previous: "p", Phase: Outcome, Committed: &yes,
			Decisions: []Decision{{Action: "a", Resource: "r", Outcome: "o", Layer: "l", By: "b", Via: "v", Missing: "m"}, {Action: "a"}}},
	}
	session := full
	session.UserIdentity = &Identity{Type: "AssumedRole", SessionContext: &Session{SessionIssuer: &Issuer{Type: "Role"}, Attributes: map[string]any{"b": "1", "a": "2"}}}
	for name, r := range map[string]Record{"zero": {}, "full": full, "session": session} {
		t.Run(name, func(t *testing.T) {
			want, err := json.Marshal(&r, json.Deterministic(true))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.appendTo(nil)
			if err != nil || string(got) != string(want) {
				t.Errorf("appendTo = %v\n%s\nwant\n%s", err, got, want)
			}
		})
	}
	bad := Record{UserAgent: "\xff"}
	got, err := bad.appendTo(nil)
	if err != nil || !jsontext.Value(got).IsValid() {
		t.Errorf("a user agent that is not UTF-8: %v %q", err, got)
	}
}
