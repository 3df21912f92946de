package material

import (
	"crypto"
	"crypto/mldsa"
	"crypto/x509"
)

// A dsaPair signs with ML-DSA (FIPS 204): hedged, with an empty context.
type dsaPair struct {
	key    *mldsa.PrivateKey
	public *mldsa.PublicKey
}

func dsaParameters(spec string) (mldsa.Parameters, bool) {
	switch spec {
	case "ML_DSA_44":
		return mldsa.MLDSA44(), true
	case "ML_DSA_65":
		return mldsa.MLDSA65(), true
	case "ML_DSA_87":
		return mldsa.MLDSA87(), true
	default:
		return mldsa.Parameters{}, false
	}
}

func generateMLDSA(spec string) ([]byte, error) {
	params, ok := dsaParameters(spec)
	if !ok {
		return nil, ErrSpec
	}
	key, err := mldsa.GenerateKey(params)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newMLDSA(spec string, key *mldsa.PrivateKey) (any, error) {
	if params, ok := dsaParameters(spec); !ok || params != key.PublicKey().Parameters() {
		return nil, ErrSpec
	}
	return dsaPair{key, key.PublicKey()}, nil
}

const muSize = 64 // bytes

func checkMLDSA(algorithm, form string, message []byte) error {
	switch {
	case algorithm != "ML_DSA_SHAKE_256":
		return ErrAlgorithm
	case form == Raw:
		return nil
	case form != ExternalMu:
		return ErrForm
	case len(message) != muSize:
		return ErrDigest
	default:
		return nil
	}
}

func (p dsaPair) sign(algorithm, form string, message []byte) ([]byte, error) {
	if err := checkMLDSA(algorithm, form, message); err != nil {
		return nil, err
	}
	if form == ExternalMu {
		return p.key.Sign(nil, message, crypto.MLDSAMu)
	}
	return p.key.Sign(nil, message, &mldsa.Options{})
}

func (p dsaPair) verify(algorithm, form string, message, signature []byte) error {
	if err := checkMLDSA(algorithm, form, message); err != nil {
		return err
	}
	if form == Raw {
		if mldsa.Verify(p.public, message, signature, nil) != nil {
			return ErrSignature
		}
		return nil
	}
	if !verifyMu(p.public, message, signature) {
		return ErrSignature
	}
	return nil
}
