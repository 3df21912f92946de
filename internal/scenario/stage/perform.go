package stage

import (
	"errors"
	"github.com/claviger/claviger/internal/scenario"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
)

// Input makes the wire request of a claim, as a dry run where the operation has
// one. ok is false if the API cannot express the claim.
func (w *World) Input(c scenario.Claim) (in any, ok bool) {
	method := reflect.ValueOf((*kms.Service)(nil)).MethodByName(c.Action)
	if !method.IsValid() || method.Type().NumIn() != 3 {
		return nil, false
	}
	v := reflect.New(method.Type().In(2).Elem())
	set := func(member string, value any) {
		if f := v.Elem().FieldByName(member); f.IsValid() {
			f.Set(reflect.ValueOf(value))
		}
	}
	set("DryRun", new(true))
	set("KeyId", new(w.KeyARN[c.Key]))
	set("Plaintext", []byte("x"))
	set("DryRunModifiers", []string{kmsapi.DryRunModifierTypeIgnoreCiphertext})
	set("NumberOfBytes", new(int32(16)))
	set("Description", new("described"))
	for member, value := range required {
		set(member, value)
	}
	for _, extra := range extras(w, c) {
		set(extra.member, extra.value)
	}
	if !c.Callable() {
		return nil, false
	}
	for _, u := range c.Using {
		if u.Name == "token" {
			set("GrantTokens", []string{w.tokens[u.Value]})
		}
	}
	for _, u := range c.Using {
		if !express(v.Elem(), u) {
			return nil, false
		}
	}
	if grant, ok := v.Interface().(*kmsapi.CreateGrantRequest); ok {
		complete(grant)
	}
	return v.Interface(), true
}

// required are members that single operations insist on, and that are not what
// claims are about.
var required = map[string]any{
	"SigningAlgorithm": new(kmsapi.SigningAlgorithmSpecEcdsaSha256), "Message": []byte("x"), "Signature": []byte("x"),
	"MacAlgorithm": new(kmsapi.MacAlgorithmSpecHmacSha256), "Mac": []byte("x"),
	"KeyAgreementAlgorithm": new(kmsapi.KeyAgreementAlgorithmSpecEcdh), "PublicKey": []byte("x"),
	"EncapsulationAlgorithm": new(kmsapi.EncapsulationAlgorithmSpecMlKem), "SharedSecretCiphertextBlob": []byte("x"),
	"KeyPairSpec": new(kmsapi.DataKeyPairSpecEccNistP256), "WrappingAlgorithm": new(kmsapi.AlgorithmSpecRsaesOaepSha256),
	"WrappingKeySpec": new(kmsapi.WrappingKeySpecRsa2048), "ImportToken": []byte("x"), "EncryptedKeyMaterial": []byte("x"),
	"ReplicaRegion": new("eu-west-1"), "PrimaryRegion": new("eu-west-1"), "CustomKeyStoreName": new("store"),
}

// parameters are the members of requests that condition keys are the values of.
var parameters = map[policy.KeyID]string{
	policy.KeyKMSSigningAlgorithm: "SigningAlgorithm", policy.KeyKMSMessageType: "MessageType", policy.KeyKMSMacAlgorithm: "MacAlgorithm",
	policy.KeyKMSKeyAgreementAlgorithm: "KeyAgreementAlgorithm", policy.KeyKMSDataKeyPairSpec: "KeyPairSpec",
	policy.KeyKMSWrappingAlgorithm: "WrappingAlgorithm", policy.KeyKMSWrappingKeySpec: "WrappingKeySpec",
	policy.KeyKMSExpirationModel: "ExpirationModel", policy.KeyKMSReplicaRegion: "ReplicaRegion", policy.KeyKMSPrimaryRegion: "PrimaryRegion",
}

// complete makes a CreateGrant request of what the claim says: a constraint's
// pairs are for the kind it names, or for at least these pairs, and an operation
// is asked for.
func complete(in *kmsapi.CreateGrantRequest) {
	if len(in.Operations) == 0 {
		in.Operations = []string{"Decrypt"}
	}
	c := in.Constraints
	if c != nil && c.EncryptionContextEquals != nil && c.EncryptionContextSubset != nil {
		c.EncryptionContextEquals, c.EncryptionContextSubset = c.EncryptionContextSubset, nil
	}
}

type extra struct {
	member string
	value  any
}

// extras are what single operations need.
func extras(w *World, c scenario.Claim) []extra {
	switch c.Action {
	case "CreateAlias":
		return []extra{{"AliasName", new("alias/new")}, {"TargetKeyId", new(w.KeyARN[c.Key])}}
	case "UpdateAlias", "DeleteAlias":
		return []extra{{"AliasName", new("alias/" + c.Key)}, {"TargetKeyId", new(w.KeyARN[c.Key])}}
	case "PutKeyPolicy":
		return []extra{{"Policy", new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)}}
	case "TagResource":
		return []extra{{"Tags", []kmsapi.Tag{}}}
	case "UntagResource":
		return []extra{{"TagKeys", []string{}}}
	case "CreateGrant":
		return []extra{{"GranteePrincipal", new(arn.Root("aws", "111122223333"))}, {"Operations", []string{}}}
	case "RetireGrant", "RevokeGrant":
		t, _ := c.Grant(w.things)
		id := w.grants[t.Name]
		if id == "" {
			id = strings.Repeat("a", 64)
		}
		return []extra{{"GrantId", &id}}
	case "ListRetirableGrants":
		account := "111122223333"
		if parts := strings.Split(scenario.PrincipalARN(w.things, c.Who), ":"); len(parts) > 4 {
			account = parts[4]
		}
		return []extra{{"RetiringPrincipal", new(arn.Root("aws", account))}}
	case "CreateKey", "ListKeys", "ListAliases":
		return []extra{{"KeyId", (*string)(nil)}, {"Description", (*string)(nil)}}
	default:
		return nil
	}
}

// express puts a condition key's value into the request that carries it.
func express(v reflect.Value, u scenario.Pair) bool {
	key := policy.KeyNamed(u.Name)
	member := func(name string) reflect.Value { return v.FieldByName(name) }
	switch {
	case u.Name == "grant", u.Name == "token":
	case expressGrant(v, key, u.Value):
	case u.Name == "alias" && member("AliasName").IsValid():
		member("AliasName").Set(reflect.ValueOf(&u.Value))
	case key.ID == policy.KeyKMSRequestAlias && member("KeyId").IsValid():
		member("KeyId").Set(reflect.ValueOf(&u.Value))
	case key.ID == policy.KeyKMSEncryptionContext && member("EncryptionContext").IsValid():
		m := member("EncryptionContext")
		if m.IsNil() {
			m.Set(reflect.ValueOf(map[string]string{}))
		}
		m.SetMapIndex(reflect.ValueOf(key.Suffix), reflect.ValueOf(u.Value))
	case key.ID == policy.KeyRequestTag && member("Tags").IsValid():
		tag := kmsapi.Tag{TagKey: &key.Suffix, TagValue: &u.Value}
		member("Tags").Set(reflect.Append(member("Tags"), reflect.ValueOf(tag)))
	case key.ID == policy.KeyTagKeys && member("TagKeys").IsValid():
		member("TagKeys").Set(reflect.Append(member("TagKeys"), reflect.ValueOf(u.Value)))
	case parameters[key.ID] != "" && member(parameters[key.ID]).IsValid():
		member(parameters[key.ID]).Set(reflect.ValueOf(&u.Value))
	case key.ID == policy.KeyKMSRotationPeriodInDays && member("RotationPeriodInDays").IsValid():
		n, err := strconv.Atoi(u.Value)
		member("RotationPeriodInDays").Set(reflect.ValueOf(new(int32(n))))
		return err == nil
	case key.ID == policy.KeyKMSValidTo && member("ValidTo").IsValid():
		n, err := strconv.ParseInt(u.Value, 10, 64)
		member("ValidTo").Set(reflect.ValueOf(model.At(time.Unix(n, 0))))
		return err == nil
	case key.ID == policy.KeyKMSScheduleKeyDeletionPendingWindowInDays && member("PendingWindowInDays").IsValid():
		n, err := strconv.Atoi(u.Value)
		member("PendingWindowInDays").Set(reflect.ValueOf(new(int32(n))))
		return err == nil
	case key.ID == policy.KeyKMSBypassPolicyLockoutSafetyCheck && member("BypassPolicyLockoutSafetyCheck").IsValid():
		member("BypassPolicyLockoutSafetyCheck").Set(reflect.ValueOf(new(u.Value == "true")))
	case key.ID == policy.KeyKMSKeySpec && member("CustomerMasterKeySpec").IsValid():
		member("KeySpec").Set(reflect.ValueOf(&u.Value))
		member("KeyUsage").Set(reflect.ValueOf(new("SIGN_VERIFY")))
	case slices.Contains(ofCall, key.ID), slices.Contains(ofService, key.ID):
		// about the call itself: the depth that runs it decides
	default:
		return false
	}
	return true
}

// expressGrant puts a condition key's value into a CreateGrant request, if it is
// one of those that say which grant is asked for.
func expressGrant(v reflect.Value, key policy.ConditionKey, value string) bool {
	in, ok := v.Addr().Interface().(*kmsapi.CreateGrantRequest)
	if !ok {
		return false
	}
	if in.Constraints == nil {
		in.Constraints = &kmsapi.GrantConstraints{}
	}
	switch key.ID {
	case policy.KeyKMSGrantOperations:
		in.Operations = append(in.Operations, value)
	case policy.KeyKMSGranteePrincipal:
		in.GranteePrincipal = &value
	case policy.KeyKMSGranteeServicePrincipal:
		in.GranteePrincipal, in.GranteeServicePrincipal = nil, &value
	case policy.KeyKMSRetiringPrincipal:
		in.RetiringPrincipal = &value
	case policy.KeyKMSRetiringServicePrincipal:
		in.RetiringServicePrincipal = &value
	case policy.KeyKMSGrantConstraintSourceArn:
		in.Constraints.SourceArn = &value
	case policy.KeyKMSGrantConstraintType:
		if value == "EncryptionContextEquals" { // complete fills it
			in.Constraints.EncryptionContextEquals = map[string]string{}
		}
	case policy.KeyKMSEncryptionContext:
		if in.Constraints.EncryptionContextSubset == nil {
			in.Constraints.EncryptionContextSubset = map[string]string{}
		}
		in.Constraints.EncryptionContextSubset[key.Suffix] = value
	default:
		return false
	}
	return true
}

// ofCall are condition keys of the call, which the service depth can set and
// HTTP cannot.
var ofCall = []policy.KeyID{policy.KeySourceIP, policy.KeyUserAgent, policy.KeyReferer, policy.KeySecureTransport}

// ofService are condition keys of the call that services set.
var ofService = []policy.KeyID{policy.KeySourceArn, policy.KeySourceAccount, policy.KeyKMSViaService, policy.KeyCalledVia, policy.KeyKMSGrantIsForAWSResource}

// Headers are what a service says about a claim's request, and the service, if one
// signs it.
func (w *World) Headers(c scenario.Claim) (headers map[string]string, signer Credentials) {
	who := w.Callers[c.Who]
	if via := c.Via(); len(via) > 0 {
		headers = map[string]string{"X-Amz-Forwarded-Access-Key-Id": who.ID, "X-Amz-Forwarded-Called-Via": strings.Join(via, ",")}
		if who.Token != "" {
			headers["X-Amz-Forwarded-Security-Token"] = who.Token
		}
		return headers, w.Callers[via[len(via)-1]]
	}
	headers = map[string]string{}
	for name, id := range map[string]policy.KeyID{"X-Amz-Source-Arn": policy.KeySourceArn, "X-Amz-Source-Account": policy.KeySourceAccount} {
		if v := c.Value(id); v != "" {
			headers[name] = v
		}
	}
	return headers, who
}

// OfCall reports whether a claim sets what only the service depth can set.
func OfCall(c scenario.Claim) bool {
	return !c.At.IsZero() || slices.ContainsFunc(c.Using, func(u scenario.Pair) bool { return slices.Contains(ofCall, policy.KeyNamed(u.Name).ID) })
}

// Perform calls the service with a claim's request as the claim's caller.
func (w *World) Perform(tb testing.TB, c scenario.Claim, in any) ([]audit.Decision, error) {
	tb.Helper()
	who := w.Callers[c.Who]
	credential, err := w.Server.Directory.Find(tb.Context(), who.ID, who.Token)
	if err != nil {
		return nil, err
	}
	call := &iam.Call{Credential: credential, RequestID: uuid.New().String(), Region: scenario.Region, Now: time.Now().UTC(), SourceIP: "127.0.0.1",
		UserAgent: "scenario", Entry: w.Server.Log.Begin(audit.Record{}), Through: w.through, Via: c.Via(),
		SourceArn: c.Value(policy.KeySourceArn), SourceAccount: c.Value(policy.KeySourceAccount)}
	if !c.At.IsZero() {
		call.Now = c.At
	}
	for _, u := range c.Using {
		switch policy.KeyNamed(u.Name).ID {
		case policy.KeySourceIP:
			call.SourceIP = u.Value
		case policy.KeyUserAgent:
			call.UserAgent = u.Value
		case policy.KeyReferer:
			call.Referer = u.Value
		case policy.KeySecureTransport:
			call.Secure = u.Value == "true"
		}
	}
	results := reflect.ValueOf(w.Server.KMS).MethodByName(c.Action).Call([]reflect.Value{
		reflect.ValueOf(tb.Context()), reflect.ValueOf(call), reflect.ValueOf(in)})
	err, _ = results[1].Interface().(error)
	return call.Entry.Claviger.Decisions, err
}

// Refused reports whether an error, or the name of a fault, is a refusal. Any
// other outcome means that the caller was allowed to try.
func Refused(err error) bool {
	var f *model.Fault
	return errors.As(err, &f) && f.Code == "AccessDeniedException" || errors.Is(err, iam.ErrUnknownCredential)
}

// Depths reports whether a claim runs through the service and over HTTP too. All
// run by the decision alone.
func Depths(f *scenario.File, c scenario.Claim) (service, http bool) {
	w := &World{file: f, things: f.Things[:c.Things]}
	_, ok := w.Input(c)
	service = ok && Expressible(f, c.Things)
	return service, service && !OfCall(c)
}
