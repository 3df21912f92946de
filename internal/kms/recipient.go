package kms

import (
	"github.com/claviger/claviger/internal/attest"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
)

// An attested is the verified attestation document of a request with a
// Recipient. Nil: there is none, and answers are in the clear.
type attested struct{ document *attest.Document }

// attest verifies the attestation document of a request, if it has one.
func (s *Service) attest(call *iam.Call, r *kmsapi.RecipientInfo) (*attested, error) {
	switch {
	case r == nil:
		return nil, nil
	case r.KeyEncryptionAlgorithm == nil || r.AttestationDocument == nil:
		return nil, validation("KeyEncryptionAlgorithm and AttestationDocument are required in Recipient.") // UNVERIFIED text
	}
	d, err := attest.Verify(r.AttestationDocument, s.config.AttestationRoots, call.Now)
	if err != nil {
		return nil, validation("The attestation document is not valid.").Because(err) // UNVERIFIED text
	}
	return &attested{d}, nil
}

// lookup answers kms:RecipientAttestation:….
func (a *attested) lookup(measurement string) policy.Value {
	if a == nil {
		return policy.Value{}
	}
	return authz.FoldLookup(a.document.Measurements, measurement)
}

// deliver returns a plaintext the way the caller is to get it: in the clear, or
// encrypted for what was attested.
func (a *attested) deliver(plaintext []byte) (clearText, forRecipient []byte, err error) {
	if a == nil {
		return plaintext, nil, nil
	}
	defer clear(plaintext)
	forRecipient, err = a.document.Encrypt(plaintext)
	return nil, forRecipient, err
}
