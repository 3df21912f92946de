package kms

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
)

// DeriveSharedSecret agrees on a secret with a peer's public key (ECDH).
func (s *Service) DeriveSharedSecret(ctx context.Context, call *iam.Call, in *kmsapi.DeriveSharedSecretRequest) (*kmsapi.DeriveSharedSecretResponse, error) {
	u, err := s.use(call, "DeriveSharedSecret", *in.KeyAgreementAlgorithm, in.GrantTokens, in.Recipient)
	if err != nil {
		return nil, err
	}
	u.request = []requestKey{{policy.KeyKMSKeyAgreementAlgorithm, u.algorithm}}
	t, err := s.apply(ctx, call, u, *in.KeyId, nil)
	if err != nil {
		return nil, err
	}
	secret, err := t.material.pair.Agree(in.PublicKey)
	switch {
	case errors.Is(err, material.ErrPeer):
		return nil, validation("")
	case err != nil:
		return nil, err
	case in.DryRun != nil && *in.DryRun:
		clear(secret)
		return nil, dryRun()
	}
	s.usage.note(t.key, "DeriveSharedSecret", call)
	out := &kmsapi.DeriveSharedSecretResponse{KeyId: new(t.key.ARN()), KeyAgreementAlgorithm: in.KeyAgreementAlgorithm, KeyOrigin: &t.key.Origin}
	out.SharedSecret, out.CiphertextForRecipient, err = u.attested.deliver(secret)
	return out, err
}

// Encapsulate draws a shared secret and encrypts it for the key (ML-KEM).
func (s *Service) Encapsulate(ctx context.Context, call *iam.Call, in *kmsapi.EncapsulateRequest) (*kmsapi.EncapsulateResponse, error) {
	u, err := s.use(call, "Encapsulate", *in.EncapsulationAlgorithm, in.GrantTokens, nil)
	if err != nil {
		return nil, err
	}
	t, err := s.apply(ctx, call, u, *in.KeyId, in.DryRun)
	if err != nil {
		return nil, err
	}
	secret, ciphertext, err := t.material.pair.Encapsulate()
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Encapsulate", call)
	return &kmsapi.EncapsulateResponse{KeyId: new(t.key.ARN()), SharedSecret: secret, SharedSecretCiphertextBlob: ciphertext,
		EncapsulationAlgorithm: in.EncapsulationAlgorithm}, nil
}

// Decapsulate recovers a shared secret (ML-KEM). A ciphertext that was not made
// for the key gives a secret that nobody else has.
func (s *Service) Decapsulate(ctx context.Context, call *iam.Call, in *kmsapi.DecapsulateRequest) (*kmsapi.DecapsulateResponse, error) {
	u, err := s.use(call, "Decapsulate", *in.EncapsulationAlgorithm, in.GrantTokens, nil)
	if err != nil {
		return nil, err
	}
	t, err := s.apply(ctx, call, u, *in.KeyId, in.DryRun)
	if err != nil {
		return nil, err
	}
	secret, err := t.material.pair.Decapsulate(in.SharedSecretCiphertextBlob)
	if errors.Is(err, material.ErrOpen) {
		err = invalidCiphertext(err)
	}
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Decapsulate", call)
	return &kmsapi.DecapsulateResponse{KeyId: new(t.key.ARN()), SharedSecret: secret, EncapsulationAlgorithm: in.EncapsulationAlgorithm}, nil
}
