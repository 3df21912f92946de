package kms

import (
	"context"
	"encoding/json/v2"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// importTime is how long the parameters for an import are valid.
const importTime = 24 * time.Hour

// maxValidity is how far away imported material may expire.
const maxValidity = 365 * day

// An importToken is sealed in an ImportToken: with it the wrapping key travels to
// the caller and back, and nothing is kept here.
type importToken struct {
	KeyARN      string
	Algorithm   string
	WrappingKey []byte // RSA private key, PKCS #8
	ValidTo     time.Time
}

const importTokenName = "import token"

// GetParametersForImport makes a wrapping key for material to import into a key,
// and the token that goes with it.
func (s *Service) GetParametersForImport(ctx context.Context, call *iam.Call, in *kmsapi.GetParametersForImportRequest) (*kmsapi.GetParametersForImportResponse, error) {
	c := &conditions{request: []requestKey{{policy.KeyKMSWrappingAlgorithm, *in.WrappingAlgorithm}, {policy.KeyKMSWrappingKeySpec, *in.WrappingKeySpec}}}
	var key *Key
	err := s.view(ctx, call, func(tx *store.Tx) (err error) {
		if key, err = managed(tx, call, "GetParametersForImport", *in.KeyId, noAlias, c); err == nil {
			err = key.wrappedBy(*in.WrappingAlgorithm, *in.WrappingKeySpec)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	private, err := s.generateMaterial(ctx, *in.WrappingKeySpec)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	pair, err := material.NewPair(*in.WrappingKeySpec, material.NewSecret(private))
	if err != nil {
		return nil, err
	}
	t := importToken{key.ARN(), *in.WrappingAlgorithm, private, call.Now.Add(importTime).Truncate(time.Millisecond)}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	token, err := s.db.Token(importTokenName, text)
	return &kmsapi.GetParametersForImportResponse{KeyId: new(key.ARN()), ImportToken: token, PublicKey: pair.Public, ParametersValidTo: model.At(t.ValidTo)}, err
}

// wrappedBy refuses the wrapping algorithms that the key's material cannot be
// wrapped by (crypto.md §7). The texts are UNVERIFIED.
func (k *Key) wrappedBy(algorithm, wrappingSpec string) error {
	twice := strings.HasPrefix(algorithm, "RSA_AES_KEY_WRAP_")
	private := k.class() == "asymmetric"
	switch {
	case algorithm == kmsapi.AlgorithmSpecSM2PKE || wrappingSpec == kmsapi.WrappingKeySpecSM2:
		return kmsapi.UnsupportedOperationException("SM2 wrapping keys are not supported in this Region.")
	case algorithm == kmsapi.AlgorithmSpecRsaesPkcs1V15,
		twice && (!private || k.Spec == kmsapi.KeySpecSM2),
		!twice && strings.HasPrefix(k.Spec, "RSA_"),
		!twice && k.Spec == kmsapi.KeySpecEccNistP521 && wrappingSpec == kmsapi.WrappingKeySpecRsa2048:
		return validation("Wrapping algorithm " + algorithm + " with wrapping key spec " + wrappingSpec + " is not compatible with key spec " + k.Spec + ".")
	default:
		return approved(algorithm)
	}
}

// ImportKeyMaterial puts key material into a key that was made without any.
func (s *Service) ImportKeyMaterial(ctx context.Context, call *iam.Call, in *kmsapi.ImportKeyMaterialRequest) (*kmsapi.ImportKeyMaterialResponse, error) {
	c := &conditions{}
	if in.ExpirationModel != nil {
		c.request = append(c.request, requestKey{policy.KeyKMSExpirationModel, *in.ExpirationModel})
	}
	if in.ValidTo != nil {
		c.request = append(c.request, requestKey{policy.KeyKMSValidTo, strconv.FormatInt(in.ValidTo.Unix(), 10)})
	}
	var out kmsapi.ImportKeyMaterialResponse
	var key *Key
	err := s.view(ctx, call, func(tx *store.Tx) (err error) {
		key, err = managed(tx, call, "ImportKeyMaterial", *in.KeyId, noAlias, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	validTo, err := validity(call.Now, in)
	if err != nil {
		return nil, err
	}
	secret, id, err := s.unwrap(ctx, key, call.Now, in)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	err = s.change(ctx, call, "ImportKeyMaterial", *in.KeyId, c, func(tx *store.Tx, k *Key) error {
		if err := k.accept(in, id); err != nil {
			return err
		}
		out.KeyId = new(k.ARN())
		if k.isSymmetric() {
			out.KeyMaterialId = &id
		}
		m := k.info(id)
		m.Imported, m.ValidTo = true, validTo
		if in.KeyMaterialDescription != nil && !k.isReplica() { // a replica has its primary's
			m.Description = *in.KeyMaterialDescription
		}
		if !validTo.IsZero() {
			if err := putDue(tx, expiryDue, k, afterExpiry(validTo)); err != nil {
				return err
			}
		}
		if err := putMaterial(tx, k, id, secret); err != nil {
			return err
		}
		if !k.isReplica() {
			if err := k.share(tx); err != nil {
				return err
			}
		}
		return s.settleImports(tx, k, call.Now)
	})
	return &out, err
}

// validity is when the material expires; zero: never.
func validity(now time.Time, in *kmsapi.ImportKeyMaterialRequest) (time.Time, error) {
	expires := model.Or(in.ExpirationModel, kmsapi.ExpirationModelTypeKeyMaterialExpires) == kmsapi.ExpirationModelTypeKeyMaterialExpires
	switch {
	case expires && in.ValidTo == nil:
		return time.Time{}, validation("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !expires && in.ValidTo != nil:
		return time.Time{}, validation("A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE") // UNVERIFIED text
	case !expires:
		return time.Time{}, nil
	case !in.ValidTo.After(now):
		return time.Time{}, validation("The validTo date must be in the future") // UNVERIFIED text
	case in.ValidTo.After(now.Add(maxValidity)):
		return time.Time{}, validation("The validTo date must be at most 365 days away") // UNVERIFIED text
	default:
		return in.ValidTo.Time, nil
	}
}

// unwrap opens the material that a request brings, and checks that it is some of
// the key's spec.
func (s *Service) unwrap(ctx context.Context, k *Key, now time.Time, in *kmsapi.ImportKeyMaterialRequest) (secret []byte, id string, err error) {
	text, err := s.db.OpenToken(importTokenName, in.ImportToken)
	var t importToken
	if err == nil {
		err = json.Unmarshal(text, &t)
		clear(text)
	}
	defer clear(t.WrappingKey)
	switch {
	case err != nil || t.KeyARN != k.ARN():
		return nil, "", kmsapi.InvalidImportTokenException("").Because(err)
	case !now.Before(t.ValidTo):
		return nil, "", kmsapi.ExpiredImportTokenException("")
	}
	done, err := s.turn(ctx, k.Spec)
	if err != nil {
		return nil, "", err
	}
	defer done()
	secret, err = material.Unwrap(t.WrappingKey, t.Algorithm, in.EncryptedKeyMaterial)
	switch {
	case errors.Is(err, material.ErrOpen):
		return nil, "", invalidCiphertext(err)
	case err != nil:
		return nil, "", err
	}
	m := &Material{Spec: k.Spec, Bytes: secret}
	if err = m.prepare(); err == nil && m.pair != nil && !m.pair.Sound() {
		err = material.ErrSpec
	}
	if err == nil {
		id, err = k.materialID(secret)
	}
	if err != nil {
		clear(secret)
		return nil, "", kmsapi.IncorrectKeyMaterialException("").Because(err)
	}
	return secret, id, nil
}

// accept decides whether the key takes material of that id, and lists it.
func (k *Key) accept(in *kmsapi.ImportKeyMaterialRequest, id string) error {
	if !k.isSymmetric() && (in.ImportType != nil || in.KeyMaterialId != nil || in.KeyMaterialDescription != nil) {
		return validation("ImportType, KeyMaterialId and KeyMaterialDescription are supported only for symmetric encryption keys.") // UNVERIFIED text
	}
	kind := kmsapi.ImportTypeExistingKeyMaterial
	if len(k.Materials) == 0 {
		kind = kmsapi.ImportTypeNewKeyMaterial
	}
	kind = model.Or(in.ImportType, kind)
	fresh := kind == kmsapi.ImportTypeNewKeyMaterial
	switch known := k.info(id); {
	case fresh && in.KeyMaterialId != nil:
		return validation("KeyMaterialId cannot be specified when ImportType is NEW_KEY_MATERIAL.") // UNVERIFIED text
	case in.KeyMaterialId != nil && *in.KeyMaterialId != id:
		return kmsapi.IncorrectKeyMaterialException("")
	case fresh && k.isReplica():
		return k.notPrimary()
	case !fresh && known == nil:
		return kmsapi.IncorrectKeyMaterialException("")
	case !fresh:
		return nil
	case k.awaiting() != nil && k.awaiting().ID != id:
		return kmsapi.KMSInvalidStateException("New key material (id: " + id + ") cannot be imported into KMS key " + k.ID +
			", because another key material (id: " + k.awaiting().ID + ") is pending rotation.")
	case known != nil && known.permanent():
		return kmsapi.IncorrectKeyMaterialException("") // it is not new (UNVERIFIED)
	case known != nil:
		return nil
	case len(k.Materials) == 0:
		k.Materials, k.MaterialID = []MaterialInfo{{ID: id, State: current}}, id
	case len(k.Replicas) > 0:
		k.Materials = append(k.Materials, MaterialInfo{ID: id, State: pendingImport})
	default:
		k.Materials = append(k.Materials, MaterialInfo{ID: id, State: pending})
	}
	return nil
}

// settleImports makes material that waited for the replicas of a multi-Region key
// ready for rotation, once all of them have it.
func (s *Service) settleImports(tx *store.Tx, k *Key, now time.Time) error {
	waiting := k.awaiting()
	if waiting == nil || waiting.State != pendingImport || !waiting.present(now) {
		return nil
	}
	if everywhere, err := k.everywhere(tx, waiting.ID, now); err != nil || !everywhere {
		return err
	}
	waiting.State = pending
	return k.share(tx)
}

// everywhere reports whether all related keys have imported material.
func (k *Key) everywhere(tx *store.Tx, id string, now time.Time) (bool, error) {
	for _, region := range k.related() {
		other, err := store.Get(tx, keyKind, keyKey(region, k.Account, k.ID))
		if err != nil {
			return false, err
		}
		if m := other.info(id); m == nil || !m.present(now) {
			return false, nil
		}
	}
	return true, nil
}

// promote makes imported material that waits for it current.
func (k *Key) promote(tx *store.Tx, now time.Time) error {
	m := k.awaiting()
	ready := m != nil && m.State == pending && m.present(now)
	if ready {
		var err error
		if ready, err = k.everywhere(tx, m.ID, now); err != nil {
			return err
		}
	}
	if !ready {
		return kmsapi.KMSInvalidStateException("No available key material pending rotation for the key: " + k.ARN() + ".")
	}
	k.makeCurrent(m.ID, kmsapi.RotationTypeOnDemand, now)
	return k.share(tx)
}

// DeleteImportedKeyMaterial removes imported material; importing the same again
// makes the key whole.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context, call *iam.Call, in *kmsapi.DeleteImportedKeyMaterialRequest) (*kmsapi.DeleteImportedKeyMaterialResponse, error) {
	var out kmsapi.DeleteImportedKeyMaterialResponse
	err := s.change(ctx, call, "DeleteImportedKeyMaterial", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		if in.KeyMaterialId != nil && !k.isSymmetric() {
			return validation("KeyMaterialId is supported only for symmetric encryption keys.") // UNVERIFIED text
		}
		out.KeyId = new(k.ARN())
		id := model.Or(in.KeyMaterialId, k.MaterialID)
		if k.isSymmetric() && id != "" {
			out.KeyMaterialId = &id
		}
		switch m := k.info(id); {
		case m == nil: // never imported, or withdrawn before
			return nil
		case m.permanent():
			k.dropImported(tx, m)
			return nil
		default:
			return k.withdraw(tx, m)
		}
	})
	return &out, err
}

// dropImported forgets the bytes of imported material.
func (k *Key) dropImported(tx *store.Tx, m *MaterialInfo) {
	tx.Delete(materialKey(k, m.ID)) // a record of its expiry may be another material's too, and does no harm
	m.Imported, m.ValidTo = false, time.Time{}
}

// lose makes material that waited to become current wait for all related keys to
// have it again, when one of them has lost it.
func (k *Key) lose(tx *store.Tx, m *MaterialInfo) error {
	if len(k.related()) == 0 {
		return nil
	}
	m.State = pendingImport
	return k.share(tx)
}

// withdraw removes material that waited to become current: on a primary from all
// replicas, on a replica from it alone.
func (k *Key) withdraw(tx *store.Tx, m *MaterialInfo) error {
	id := m.ID
	k.dropImported(tx, m)
	if k.isReplica() {
		return k.lose(tx, m)
	}
	k.forget(id)
	for _, region := range k.related() {
		other, err := store.Edit(tx, keyKind, keyKey(region, k.Account, k.ID))
		if err != nil {
			return err
		}
		if m := other.info(id); m != nil {
			other.dropImported(tx, m)
			other.forget(id)
		}
		if err := putKey(tx, other); err != nil {
			return err
		}
	}
	return nil
}

func (k *Key) forget(id string) {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			k.Materials = append(k.Materials[:i:i], k.Materials[i+1:]...)
			return
		}
	}
}

// afterExpiry is a whole second after the expiry.
func afterExpiry(validTo time.Time) time.Time { return validTo.Add(time.Second).Truncate(time.Second) }

// expireDue forgets material whose time is over. It was gone for everybody
// before that.
func (s *Service) expireDue(tx *store.Tx, e store.Entry[due], now time.Time) (event string, err error) {
	tx.Delete(e.Key)
	key, err := e.Value.key(tx)
	if err != nil || key == nil {
		return "", err
	}
	k, err := editable(tx, key)
	if err != nil {
		return "", err
	}
	for i := range k.Materials {
		m := &k.Materials[i]
		if !m.Imported || m.present(now) {
			continue
		}
		event = "DeleteExpiredKeyMaterial"
		k.dropImported(tx, m)
		if !m.permanent() {
			if err := k.lose(tx, m); err != nil {
				return "", err
			}
		}
	}
	if event == "" {
		return "", nil
	}
	return event, putKey(tx, k)
}
