package kms

import (
	"context"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
)

// authenticating begins a GenerateMac or VerifyMac.
func (s *Service) authenticating(call *iam.Call, operation, algorithm string, tokens []string) (use, error) {
	u, err := s.use(call, operation, algorithm, tokens, nil)
	u.request = []requestKey{{policy.KeyKMSMacAlgorithm, algorithm}}
	return u, err
}

// GenerateMac computes the authentication code of a message with an HMAC key.
func (s *Service) GenerateMac(ctx context.Context, call *iam.Call, in *kmsapi.GenerateMacRequest) (*kmsapi.GenerateMacResponse, error) {
	u, err := s.authenticating(call, "GenerateMac", *in.MacAlgorithm, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	t, err := s.apply(ctx, call, u, *in.KeyId, in.DryRun)
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "GenerateMac", call)
	return &kmsapi.GenerateMacResponse{KeyId: new(t.key.ARN()), Mac: t.material.mac.Sum(in.Message), MacAlgorithm: in.MacAlgorithm}, nil
}

// VerifyMac checks an authentication code. A wrong one is a fault, never an answer.
func (s *Service) VerifyMac(ctx context.Context, call *iam.Call, in *kmsapi.VerifyMacRequest) (*kmsapi.VerifyMacResponse, error) {
	u, err := s.authenticating(call, "VerifyMac", *in.MacAlgorithm, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	t, err := s.apply(ctx, call, u, *in.KeyId, in.DryRun)
	if err != nil {
		return nil, err
	}
	if !t.material.mac.Verify(in.Message, in.Mac) {
		return nil, kmsapi.KMSInvalidMacException("")
	}
	s.usage.note(t.key, "VerifyMac", call)
	return &kmsapi.VerifyMacResponse{KeyId: new(t.key.ARN()), MacValid: new(true), MacAlgorithm: in.MacAlgorithm}, nil
}
