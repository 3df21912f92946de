package scenario

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/policy"
)

// A Reason is a decision in the words of claims: statements as FILE#SID, layers as refusals
// name them.
type Reason struct{ Outcome, By, Via, Missing string }

// String is the reason in a sentence.
func (r Reason) String() string {
	var text string
	switch {
	case r.Outcome == "Allowed" && r.By == "":
		text = "the root user is allowed"
	case r.Outcome == "Allowed":
		text = r.By + " allows"
	case r.Outcome == "ExplicitDeny":
		text = r.By + " denies"
	case r.Missing != "":
		text = "no " + r.Missing + " allows"
	default:
		text = "refused"
	}
	if r.Via != "" {
		text += ", by way of " + r.Via
	}
	return text
}

// Check compares a verdict and its reason with a claim.
func (c Claim) Check(allowed bool, last Reason, file func(statement string) string) error {
	if allowed != c.Allowed {
		return fmt.Errorf("line %d: %s: it is not so: %v", c.Line, c.Name, last)
	}
	for _, b := range c.Because {
		if !c.explains(b, last, file) {
			return fmt.Errorf("line %d: %s: not because %s: %v", c.Line, c.Name, b, last)
		}
	}
	return nil
}

func (c Claim) explains(because string, d Reason, file func(string) string) bool {
	words := strings.Fields(because)
	if len(words) < 2 {
		return false
	}
	if words[0] == "no" {
		return d.Outcome == "ImplicitDeny" && d.Missing == strings.Join(words[1:len(words)-1], " ")
	}
	statement := file(words[0])
	switch words[len(words)-1] {
	case "allows":
		return d.Outcome == "Allowed" && (file(d.By) == statement || file(d.Via) == statement)
	case "denies":
		return d.Outcome == "ExplicitDeny" && file(d.By) == statement
	default:
		return false
	}
}

// Callable reports whether the claim's caller can say what the claim says about
// the call: only a service tells on whose behalf it calls, and only a call that
// a service forwards is one for a service.
func (c Claim) Callable() bool {
	service := strings.HasSuffix(c.Who, ".amazonaws.com")
	if !service && (c.Value(policy.KeySourceArn) != "" || c.Value(policy.KeySourceAccount) != "") {
		return false
	}
	is := c.Value(policy.KeyKMSGrantIsForAWSResource)
	return !(service && len(c.Via()) > 0) && (is == "" || is == strconv.FormatBool(len(c.Via()) > 0))
}
