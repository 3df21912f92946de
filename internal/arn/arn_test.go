package arn

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in   string
		want ARN
		err  error
	}{
		{"arn:aws:kms:us-east-1:111122223333:key/x", ARN{"aws", "kms", "us-east-1", "111122223333", "key/x"}, nil},
		{"arn:aws:iam::111122223333:root", ARN{"aws", "iam", "", "111122223333", "root"}, nil},
		{"arn:aws:logs:us-east-1:1:log-group:a:b", ARN{"aws", "logs", "us-east-1", "1", "log-group:a:b"}, nil},
		{"arn:aws:kms:us-east-1:111122223333", ARN{}, ErrSyntax},
		{"arn:aws:kms:us-east-1:111122223333:", ARN{}, ErrSyntax},
		{"urn:aws:kms:a:b:c", ARN{}, ErrSyntax},
		{"", ARN{}, ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Parse(tt.in)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Parse(%q) = %v, %v; want %v, %v", tt.in, got, err, tt.want, tt.err)
			}
			if err == nil && got.String() != tt.in {
				t.Errorf("String() = %q, want %q", got.String(), tt.in)
			}
		})
	}
}

func TestIsKeyID(t *testing.T) {
	tests := map[string]bool{
		"1234abcd-12ab-34cd-56ef-1234567890ab": true,
		"mrk-1234abcd12ab34cd56ef1234567890ab": true,
		"1234ABCD-12ab-34cd-56ef-1234567890ab": false,
		"1234abcd12ab34cd56ef1234567890ab":     false,
		"1234abcd-12ab-34cd-56ef+1234567890ab": false,
		"mrk-1234abcd12ab34cd56ef1234567890a":  false,
		"":                                     false,
	}
	for id, want := range tests {
		if got := IsKeyID(id); got != want {
			t.Errorf("IsKeyID(%q) = %t, want %t", id, got, want)
		}
	}
}

func TestIsRegion(t *testing.T) {
	tests := map[string]bool{
		"us-east-1": true, "us-gov-west-1": true, "ap-southeast-12": true, "eusc-de-east-1": true,
		"us-east": false, "us-1-east": false, "US-EAST-1": false, "us--1": false, "": false, "us-east-": false,
	}
	for r, want := range tests {
		if got := IsRegion(r); got != want {
			t.Errorf("IsRegion(%q) = %t, want %t", r, got, want)
		}
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eu-west-1": "aws"} {
		if got := Partition(region); got != want {
			t.Errorf("Partition(%q) = %q, want %q", region, got, want)
		}
	}
	if got, want := Key("cn-north-1", "111122223333", "k"), "arn:aws-cn:kms:cn-north-1:111122223333:key/k"; got != want {
		t.Errorf("Key = %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	f.Add("mrk-1234abcd12ab34cd56ef1234567890ab")
	f.Add("us-gov-west-1")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err == nil && a.String() != s {
			t.Fatalf("Parse(%q).String() = %q", s, a)
		}
		for _, part := range []bool{IsKeyID(s), IsRegion(s), IsAccount(s)} {
			if again, err := Parse(Key("us-east-1", "111122223333", s)); part && (err != nil || again.Resource != "key/"+s || strings.ContainsAny(s, ":/")) {
				t.Fatalf("%q, inside an ARN, is %v, %v", s, again, err)
			}
		}
	})
}
