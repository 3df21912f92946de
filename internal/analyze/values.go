package analyze

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/policy"
)

// A domain is what the values of a condition key look like.
type domain uint8

const (
	text    domain = iota
	truth          // true, false
	whole          // whole numbers, none of them negative
	epoch          // seconds since 1970, whole
	instant        // RFC 3339, to the second
	address        // IP addresses
)

var domains = map[policy.KeyID]domain{
	policy.KeySecureTransport: truth, policy.KeyViaAWSService: truth, policy.KeyPrincipalIsAWSService: truth, policy.KeyMultiFactorAuthPresent: truth,
	policy.KeyKMSBypassPolicyLockoutSafetyCheck: truth, policy.KeyKMSGrantIsForAWSResource: truth, policy.KeyKMSMultiRegion: truth, policy.KeyKMSReEncryptOnSameKey: truth,
	policy.KeyMultiFactorAuthAge: whole, policy.KeyKMSRotationPeriodInDays: whole, policy.KeyKMSScheduleKeyDeletionPendingWindowInDays: whole,
	policy.KeyKMSTrailingDaysWithoutKeyUsage: whole, policy.KeyEpochTime: epoch, policy.KeyKMSValidTo: epoch,
	policy.KeyCurrentTime: instant, policy.KeyTokenIssueTime: instant, policy.KeySourceIP: address, policy.KeyVpcSourceIP: address,
}

var errConstruct = errors.New("analyze: a pattern on a key that has no texts")

// shapesOf are all operands of some tests, which have no variables.
func shapesOf(tests []*test) (out []policy.Shape) {
	for _, t := range tests {
		shapes, _ := t.Shapes()
		out = append(out, shapes...)
	}
	return out
}

// texts returns values of a domain, or of the texts of some universes, that are all the
// shapes can tell apart.
func texts(d domain, shapes []policy.Shape, universes ...pattern) ([]string, error) {
	switch d {
	case truth:
		return []string{"true", "false"}, nil
	case whole, epoch:
		return wholes(shapes)
	case instant:
		return instants(shapes)
	case address:
		return addresses(shapes)
	default:
		return free(shapes, universes)
	}
}

func wholes(shapes []policy.Shape) (out []string, err error) {
	numbers := []float64{0}
	for _, s := range shapes {
		switch s.Kind {
		case policy.NumberShape:
			numbers = append(numbers, s.Number)
		case policy.InstantShape:
			numbers = append(numbers, float64(s.Instant.UnixNano())/1e9)
		case policy.TextShape:
			if n, err := strconv.ParseInt(s.Text, 10, 64); err == nil {
				numbers = append(numbers, float64(n))
			}
		default:
			return nil, errConstruct
		}
	}
	for _, n := range numbers {
		for _, m := range []float64{math.Floor(n) - 1, math.Floor(n), math.Ceil(n), math.Ceil(n) + 1} {
			if m >= 0 && m < 1<<53 {
				out = append(out, strconv.FormatInt(int64(m), 10))
			}
		}
	}
	return distinct(out), nil
}

func instants(shapes []policy.Shape) (out []string, err error) {
	times := []time.Time{fixed}
	for _, s := range shapes {
		switch s.Kind {
		case policy.InstantShape:
			times = append(times, s.Instant)
		case policy.TextShape:
			if t, err := time.Parse(time.RFC3339, s.Text); err == nil {
				times = append(times, t)
			}
		case policy.NumberShape: // which no date is
		default:
			return nil, errConstruct
		}
	}
	for _, t := range times {
		at := t.UTC().Truncate(time.Second)
		for _, near := range []time.Time{at.Add(-time.Second), at, at.Add(time.Second), at.Add(2 * time.Second)} {
			if y := near.Year(); y >= 1970 && y <= 9999 {
				out = append(out, near.Format(time.RFC3339))
			}
		}
	}
	return distinct(out), nil
}

func addresses(shapes []policy.Shape) (out []string, err error) {
	ips := []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8::10")}
	for _, s := range shapes {
		switch s.Kind {
		case policy.AddressShape:
			first := s.Prefix.Addr()
			ips = append(ips, first, first.Prev(), lastOf(s.Prefix), lastOf(s.Prefix).Next())
		case policy.TextShape:
			if ip, err := netip.ParseAddr(s.Text); err == nil {
				ips = append(ips, ip)
			}
		default:
			return nil, errConstruct
		}
	}
	for _, ip := range ips {
		if ip.IsValid() {
			out = append(out, ip.String())
		}
	}
	return distinct(out), nil
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// free returns texts: each that is named, and for each way to match patterns one that is
// not. Patterns do not go together with operators that read the text as something else.
func free(shapes []policy.Shape, universes []pattern) (out []string, err error) {
	var patterns []pattern
	read := false
	for _, s := range shapes {
		if s.Kind != shapes[0].Kind && (s.Kind > policy.PatternShape || shapes[0].Kind > policy.PatternShape) {
			return nil, errConstruct // a text that is read in two ways
		}
		switch s.Kind {
		case policy.TextShape:
			if universes == nil || slices.ContainsFunc(universes, func(u pattern) bool { return u.matches(s.Text) }) {
				out = append(out, s.Text)
			}
		case policy.PatternShape:
			patterns = append(patterns, patternOf(s.Pieces))
		case policy.OtherShape:
			return nil, errConstruct
		default:
			read = true
		}
	}
	if read {
		if patterns != nil {
			return nil, errConstruct
		}
		out = append(out, readings(shapes, out)...)
	}
	if universes == nil {
		universes = []pattern{some(word), everything}
	}
	fresh, err := samples(universes, patterns, out)
	return distinct(append(out, fresh...)), err
}

// readings are texts that read as numbers, dates or addresses of every kind that the shapes
// tell apart, spelled as none of the texts given.
func readings(shapes []policy.Shape, named []string) (out []string) {
	var numbers []float64
	spell := func(s string) {
		for slices.Contains(named, s) {
			s = "0" + s
		}
		out = append(out, s)
	}
	for _, s := range shapes {
		switch s.Kind {
		case policy.NumberShape:
			numbers = append(numbers, s.Number)
		case policy.InstantShape:
			for _, t := range []time.Time{s.Instant.Add(-time.Second), s.Instant, s.Instant.Add(time.Second)} {
				out = append(out, t.UTC().Format(time.RFC3339Nano))
			}
		case policy.AddressShape:
			for _, ip := range []netip.Addr{s.Prefix.Addr(), s.Prefix.Addr().Prev(), lastOf(s.Prefix).Next()} {
				if ip.IsValid() {
					out = append(out, ip.String())
				}
			}
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		next := n + 2
		if i+1 < len(numbers) {
			next = numbers[i+1]
		}
		for _, m := range []float64{n - 1, n, (n + next) / 2} {
			spell(strconv.FormatFloat(m, 'f', -1, 64))
		}
	}
	return out
}

func distinct(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// enumerated are keys whose values are few and known.
var enumerated = map[policy.KeyID][]string{
	policy.KeyKMSKeyUsage:            {"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"},
	policy.KeyKMSKeyOrigin:           {"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"},
	policy.KeyKMSMultiRegionKeyType:  {"PRIMARY", "REPLICA"},
	policy.KeyKMSMessageType:         {"RAW", "DIGEST", "EXTERNAL_MU"},
	policy.KeyKMSExpirationModel:     {"KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"},
	policy.KeyKMSGrantConstraintType: {"EncryptionContextEquals", "EncryptionContextSubset"},
	policy.KeyKMSGrantOperations: strings.Fields(`Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo CreateGrant RetireGrant
		DescribeKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GetPublicKey Sign Verify GenerateMac VerifyMac DeriveSharedSecret`),
}

// universes of texts that have a form.
var universes = map[policy.KeyID][]pattern{
	policy.KeySourceVpce:       {joined(literal("vpce-"), some(word))},
	policy.KeySourceVpc:        {joined(literal("vpc-"), some(word))},
	policy.KeyPrincipalOrgID:   {joined(literal("o-"), some(word))},
	policy.KeySourceAccount:    {repeat(digit, 12)},
	policy.KeyVpceAccount:      {repeat(digit, 12)},
	policy.KeyKMSRequestAlias:  {joined(literal("alias/"), some(anyone))},
	policy.KeyVpceOrgID:        {joined(literal("o-"), some(word))},
	policy.KeySourceOrgID:      {joined(literal("o-"), some(word))},
	policy.KeyKMSReplicaRegion: {joined(some(word))},
}

// valuesOf returns values of a key that hold for all, as far as the tests tell them apart.
func valuesOf(key policy.ConditionKey, tests []*test) ([]string, error) {
	if list := enumerated[key.ID]; list != nil {
		return list, nil
	}
	out, err := texts(domains[key.ID], shapesOf(tests), universes[key.ID]...)
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return out, err
}
