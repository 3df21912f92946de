package kms

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
)

// A keySpec says what keys of one key spec can do.
type keySpec struct {
	algorithms map[string][]string // by the key usages the spec allows
	pool       string              // of request quotas (quotas.md §2.1)
	importable bool
}

// Key usages, short.
const (
	encryptDecrypt = kmsapi.KeyUsageTypeEncryptDecrypt
	signVerify     = kmsapi.KeyUsageTypeSignVerify
	generateVerify = kmsapi.KeyUsageTypeGenerateVerifyMac
	keyAgreement   = kmsapi.KeyUsageTypeKeyAgreement
	encapsulation  = kmsapi.KeyUsageTypeEncapsulateDecapsulate
)

// symmetricDefault is the key spec of symmetric encryption keys, and their
// algorithm.
const symmetricDefault = kmsapi.KeySpecSymmetricDefault

// keySpecs are all key specs (KMS Developer Guide, "Key spec reference";
// operations.md §4).
var keySpecs = func() map[string]keySpec {
	m := map[string]keySpec{
		symmetricDefault:            {map[string][]string{encryptDecrypt: {symmetricDefault}}, poolSymmetric, true},
		kmsapi.KeySpecEccSecgP256k1: {map[string][]string{signVerify: {"ECDSA_SHA_256"}}, poolECC, true},
		kmsapi.KeySpecEccNistEdwards25519: {map[string][]string{
			signVerify: {"ED25519_SHA_512", "ED25519_PH_SHA_512"}}, poolECC, true},
		kmsapi.KeySpecSM2: {map[string][]string{
			encryptDecrypt: {"SM2PKE"}, signVerify: {"SM2DSA"}, keyAgreement: {"ECDH"}}, poolECC, true},
	}
	for _, bits := range []string{"224", "256", "384", "512"} {
		m["HMAC_"+bits] = keySpec{map[string][]string{generateVerify: {"HMAC_SHA_" + bits}}, poolSymmetric, true}
	}
	for _, bits := range []string{"2048", "3072", "4096"} {
		m["RSA_"+bits] = keySpec{map[string][]string{
			encryptDecrypt: {"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"},
			signVerify: {"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
				"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"},
		}, poolRSA, true}
	}
	for curve, hash := range map[string]string{"P256": "256", "P384": "384", "P521": "512"} {
		m["ECC_NIST_"+curve] = keySpec{map[string][]string{signVerify: {"ECDSA_SHA_" + hash}, keyAgreement: {"ECDH"}}, poolECC, true}
	}
	for _, set := range []string{"44", "65", "87"} {
		m["ML_DSA_"+set] = keySpec{map[string][]string{signVerify: {"ML_DSA_SHAKE_256"}}, poolMLDSA, false}
	}
	for _, set := range []string{"512", "768", "1024"} {
		m["ML_KEM_"+set] = keySpec{map[string][]string{encapsulation: {"ML_KEM"}}, poolECC, false} // UNVERIFIED: the pool, and that it cannot be imported
	}
	return m
}()

// isSymmetric reports whether the key is a symmetric encryption key.
func (k *Key) isSymmetric() bool { return k.Spec == symmetricDefault }

// isMAC reports whether the key is an HMAC key.
func (k *Key) isMAC() bool { return strings.HasPrefix(k.Spec, "HMAC_") }

// class is the type of a key as aliases tell it apart.
func (k *Key) class() string {
	switch {
	case k.isSymmetric():
		return "symmetric"
	case k.isMAC():
		return "HMAC"
	default:
		return "asymmetric"
	}
}

// algorithms are those that keys of this spec and usage work with.
func (k *Key) algorithms() []string { return keySpecs[k.Spec].algorithms[k.Usage] }

// operationUsage is the key usage that each cryptographic operation needs; empty for others.
func operationUsage(operation string) string {
	switch operation {
	case "Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
		return encryptDecrypt
	case "Sign", "Verify":
		return signVerify
	case "GenerateMac", "VerifyMac":
		return generateVerify
	case "DeriveSharedSecret":
		return keyAgreement
	case "Encapsulate", "Decapsulate":
		return encapsulation
	default:
		return ""
	}
}

// suits checks that the key is for the operation and the algorithm asked for.
func (k *Key) suits(operation, algorithm string) error {
	switch {
	case k.Usage != operationUsage(operation) && operation == "Decrypt":
		return incorrectKey()
	case k.Usage != operationUsage(operation):
		return kmsapi.InvalidKeyUsageException(k.ARN() + " key usage is " + k.Usage + " which is not valid for " + operation + ".")
	case !slices.Contains(k.algorithms(), algorithm):
		return kmsapi.InvalidKeyUsageException("Algorithm " + algorithm + " is incompatible with key spec " + k.Spec + ".")
	}
	if err := approved(algorithm); err != nil {
		return err
	}
	return k.has(operation)
}

// approved refuses the key specs and algorithms that FIPS 140-3 mode forbids.
func approved(name string) error {
	if material.Approved(name) {
		return nil
	}
	return kmsapi.UnsupportedOperationException(name + " is not available in FIPS 140-3 mode.")
}

func incorrectKey() error {
	return kmsapi.IncorrectKeyException("The key ID in the request does not identify a CMK that can perform this operation.")
}

// has refuses the operations that a kind of key does not have, whatever its
// state (operations.md §4; key-states.json).
func (k *Key) has(operation string) error {
	if err := approved(k.Spec); err != nil {
		return err
	}
	inStore := k.StoreID != ""
	switch operation {
	case "EnableKeyRotation", "DisableKeyRotation":
		switch {
		case k.isSymmetric() && k.Origin == kmsapi.OriginTypeExternal:
			return k.wrongOrigin()
		case !k.isSymmetric() || inStore:
			return kmsapi.UnsupportedOperationException("")
		case k.isReplica():
			return k.notPrimary()
		}
	case "GetKeyRotationStatus": // of other specs it is always false (API reference until 2023; Terraform relies on it)
		if inStore {
			return kmsapi.UnsupportedOperationException("")
		}
	case "ListKeyRotations", "RotateKeyOnDemand":
		switch {
		case !k.isSymmetric() || inStore:
			return kmsapi.UnsupportedOperationException("")
		case operation == "RotateKeyOnDemand" && k.isReplica():
			return k.notPrimary()
		}
	case "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial":
		if k.Origin != kmsapi.OriginTypeExternal {
			return k.wrongOrigin()
		}
	case "ReplicateKey", "UpdatePrimaryRegion":
		if !k.MultiRegion || k.isReplica() {
			return k.notPrimary()
		}
	case "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
		if inStore {
			return kmsapi.UnsupportedOperationException("")
		}
	case "GetPublicKey":
		if k.class() != "asymmetric" {
			return kmsapi.UnsupportedOperationException("")
		}
	}
	return nil
}

func (k *Key) wrongOrigin() error {
	return kmsapi.UnsupportedOperationException(k.ARN() + " origin is " + k.Origin + " which is not valid for this operation.")
}

func (k *Key) notPrimary() error {
	return kmsapi.UnsupportedOperationException(k.ARN() + " is not a multi-region primary key.")
}
