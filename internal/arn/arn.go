// Package arn parses and prints Amazon Resource Names, KMS key ids and alias
// names. It knows their syntax and nothing about whether what they name exists.
package arn

import (
	"errors"
	"slices"
	"strings"
)

// ErrSyntax reports a text that is not an ARN.
var ErrSyntax = errors.New("arn: not six colon-separated fields beginning with arn")

// An ARN names a resource: arn:partition:service:region:account:resource.
// Region and account are empty for services that have none.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// Parse splits s. The resource keeps any further colons. It does not judge the
// fields beyond requiring that partition, service and resource are not empty.
func Parse(s string) (ARN, error) {
	f := strings.SplitN(s, ":", 6)
	if len(f) != 6 || f[0] != "arn" || f[1] == "" || f[2] == "" || f[5] == "" {
		return ARN{}, ErrSyntax
	}
	return ARN{f[1], f[2], f[3], f[4], f[5]}, nil
}

// String prints a in its six-field form.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// Split cuts the resource at its first slash: "key/1234" is "key" and "1234".
func (a ARN) Split() (kind, name string) {
	kind, name, _ = strings.Cut(a.Resource, "/")
	return kind, name
}

// Partition is the partition a Region belongs to (AUTH-2.14).
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	default:
		return "aws"
	}
}

// Key is the ARN of a KMS key.
func Key(region, account, id string) string {
	return ARN{Partition(region), "kms", region, account, "key/" + id}.String()
}

// Alias is the ARN of an alias; name begins with "alias/".
func Alias(region, account, name string) string {
	return ARN{Partition(region), "kms", region, account, name}.String()
}

// Root is the ARN of an account's root user, which also stands for the account
// in a Principal element.
func Root(partition, account string) string { return IAM(partition, account, "root") }

// IAM is the ARN of an identity: resource is "user/path/name", "role/name" and so on.
func IAM(partition, account, resource string) string {
	return ARN{partition, "iam", "", account, resource}.String()
}

// STS is the ARN of a temporary identity: "assumed-role/R/S" or "federated-user/N".
func STS(partition, account, resource string) string {
	return ARN{partition, "sts", "", account, resource}.String()
}

// IsAccount reports whether s is a 12-digit account id.
func IsAccount(s string) bool {
	return len(s) == 12 && isDigits(s)
}

// Regions are the names of Regions that there are; none: any.
type Regions []string

// Has reports whether there is the Region.
func (r Regions) Has(name string) bool { return len(r) == 0 || slices.Contains(r, name) }

// IsRegion reports whether s has the form of a Region name, as us-east-1 or
// us-gov-west-1: two or three words of letters and a number, with hyphens between.
func IsRegion(s string) bool {
	words, inWord := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			inWord++
		case c == '-' && inWord > 0:
			words, inWord = words+1, 0
		case c >= '0' && c <= '9' && inWord == 0:
			return (words == 2 || words == 3) && len(s) <= 32 && isDigits(s[i:])
		default:
			return false
		}
	}
	return false
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// IsKeyID reports whether s is a KMS key id: a lower-case UUID, or mrk- and 32
// hexadecimal digits (operations.md §1.1).
func IsKeyID(s string) bool {
	if hex, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(hex) == 32 && isHex(hex)
	}
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (c == '-') || !hyphen && !isHex(s[i:i+1]) {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
