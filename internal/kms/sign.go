package kms

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// signing begins a Sign or Verify.
func (s *Service) signing(call *iam.Call, operation, algorithm, form string, tokens []string) (use, error) {
	u, err := s.use(call, operation, algorithm, tokens, nil)
	u.request = []requestKey{{policy.KeyKMSSigningAlgorithm, algorithm}, {policy.KeyKMSMessageType, form}}
	return u, err
}

// messageFault words what is wrong with a message to sign.
func messageFault(err error, algorithm, form string) error {
	switch {
	case errors.Is(err, material.ErrDigest):
		return validation("Digest is invalid length for algorithm " + algorithm + ".")
	case errors.Is(err, material.ErrForm):
		return validation("Algorithm " + algorithm + " does not support message type " + form + ".") // UNVERIFIED text
	default:
		return err
	}
}

// Sign signs a message with an asymmetric key.
func (s *Service) Sign(ctx context.Context, call *iam.Call, in *kmsapi.SignRequest) (*kmsapi.SignResponse, error) {
	form := model.Or(in.MessageType, kmsapi.MessageTypeRaw)
	u, err := s.signing(call, "Sign", *in.SigningAlgorithm, form, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	t, err := s.applyTo(ctx, call, u, *in.KeyId, in.DryRun, in.Message, form)
	if err != nil {
		return nil, err
	}
	signature, err := t.material.pair.Sign(u.algorithm, form, in.Message)
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Sign", call)
	return &kmsapi.SignResponse{KeyId: new(t.key.ARN()), Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// Verify checks a signature. One that does not verify is a fault, never an answer.
func (s *Service) Verify(ctx context.Context, call *iam.Call, in *kmsapi.VerifyRequest) (*kmsapi.VerifyResponse, error) {
	form := model.Or(in.MessageType, kmsapi.MessageTypeRaw)
	u, err := s.signing(call, "Verify", *in.SigningAlgorithm, form, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	t, err := s.applyTo(ctx, call, u, *in.KeyId, in.DryRun, in.Message, form)
	if err != nil {
		return nil, err
	}
	err = t.material.pair.Verify(u.algorithm, form, in.Message, in.Signature)
	if errors.Is(err, material.ErrSignature) {
		err = kmsapi.KMSInvalidSignatureException("")
	}
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Verify", call)
	return &kmsapi.VerifyResponse{KeyId: new(t.key.ARN()), SignatureValid: new(true), SigningAlgorithm: in.SigningAlgorithm}, nil
}

// applyTo is apply for a message, whose form is checked before a dry run ends.
func (s *Service) applyTo(ctx context.Context, call *iam.Call, u use, identifier string, dry *bool, message []byte, form string) (t tool, err error) {
	t, err = s.apply(ctx, call, u, identifier, nil)
	if err == nil {
		err = messageFault(material.CheckMessage(u.algorithm, form, message), u.algorithm, form)
	}
	if err == nil && model.Value(dry) {
		err = dryRun()
	}
	return t, err
}

// GetPublicKey shows the public half of an asymmetric key.
func (s *Service) GetPublicKey(ctx context.Context, call *iam.Call, in *kmsapi.GetPublicKeyRequest) (*kmsapi.GetPublicKeyResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	var out *kmsapi.GetPublicKeyResponse
	err = s.view(ctx, call, func(tx *store.Tx) error {
		key, err := managed(tx, call, "GetPublicKey", *in.KeyId, withAlias, &conditions{presented: presented})
		if err != nil {
			return err
		}
		m, err := key.material(tx, key.MaterialID)
		if errors.Is(err, store.ErrNotFound) { // nothing was imported, or it was deleted (UNVERIFIED)
			return kmsapi.KMSInvalidStateException(key.ARN() + " is pending import.")
		}
		if err != nil {
			return err
		}
		d, err := key.metadata(tx, call.Now)
		out = &kmsapi.GetPublicKeyResponse{KeyId: d.Arn, PublicKey: m.pair.Public, CustomerMasterKeySpec: d.KeySpec, KeySpec: d.KeySpec, KeyUsage: d.KeyUsage,
			EncryptionAlgorithms: d.EncryptionAlgorithms, SigningAlgorithms: d.SigningAlgorithms, KeyAgreementAlgorithms: d.KeyAgreementAlgorithms,
			EncapsulationAlgorithms: d.EncapsulationAlgorithms}
		return err
	})
	return out, err
}
