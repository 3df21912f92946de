package material

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"strings"

	_ "crypto/sha1" // OAEP
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Errors of asymmetric keys. None tells anything about the private key.
var (
	ErrSpec      = errors.New("material: not a private key of this key spec")
	ErrAlgorithm = errors.New("material: the key spec has no such algorithm")
	ErrDigest    = errors.New("material: digest of the wrong length")
	ErrForm      = errors.New("material: the algorithm does not take messages of this form")
	ErrTooLong   = errors.New("material: plaintext too long for the algorithm")
	ErrSignature = errors.New("material: signature does not verify")
	ErrPeer      = errors.New("material: not a public key on the same curve")
)

// Forms of a message to sign, as KMS names them.
const (
	Raw        = "RAW"         // the message itself
	Digest     = "DIGEST"      // its digest
	ExternalMu = "EXTERNAL_MU" // the µ of FIPS 204, of 64 bytes
)

// A Pair is the key pair of an asymmetric KMS key or of a data key pair, ready
// for use. It is immutable and safe for concurrent use.
type Pair struct {
	Spec   string
	Public []byte // SubjectPublicKeyInfo (RFC 5280), DER

	impl any
}

// What a pair can do, by its kind.
type (
	signer interface {
		sign(algorithm, form string, message []byte) ([]byte, error)
		verify(algorithm, form string, message, signature []byte) error
	}
	crypter interface {
		encrypt(algorithm string, plaintext []byte) ([]byte, error)
		decrypt(algorithm string, ciphertext []byte) ([]byte, error)
	}
	agreer interface {
		agree(peer []byte) ([]byte, error)
	}
	encapsulator interface {
		encapsulate() (shared, ciphertext []byte, err error)
		decapsulate(ciphertext []byte) ([]byte, error)
	}
)

// GeneratePair draws a key pair of a key spec and returns its private key as
// PKCS #8 (RFC 5958), DER. RSA takes its time.
func GeneratePair(spec string) ([]byte, error) {
	switch family(spec) {
	case "RSA":
		return generateRSA(spec)
	case "ECC_NIST":
		return generateNIST(spec)
	case "ED25519":
		return generateEd25519()
	case "SECP256K1":
		return generateSecp256k1()
	case "SM2":
		return generateSM2()
	case "ML_DSA":
		return generateMLDSA(spec)
	case "ML_KEM":
		return generateMLKEM(spec)
	default:
		return nil, fmt.Errorf("%q: %w", spec, ErrSpec)
	}
}

// family groups the key specs by how they are implemented.
func family(spec string) string {
	switch {
	case spec == "ECC_NIST_EDWARDS25519":
		return "ED25519"
	case spec == "ECC_SECG_P256K1":
		return "SECP256K1"
	case strings.HasPrefix(spec, "ECC_NIST_P"):
		return "ECC_NIST"
	case spec == "SM2":
		return "SM2"
	}
	for _, f := range []string{"RSA", "ML_DSA", "ML_KEM"} {
		if strings.HasPrefix(spec, f+"_") {
			return f
		}
	}
	return ""
}

// NewPair prepares the private key of a key spec from its PKCS #8 form. ErrSpec:
// it is not one. The public half is derived.
func NewPair(spec string, s Secret) (*Pair, error) {
	p := &Pair{Spec: spec}
	err := s.Use(func(der []byte) (err error) {
		p.impl, p.Public, err = parsePair(spec, der)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	return p, nil
}

func parsePair(spec string, der []byte) (any, []byte, error) {
	if _, _, err := parsePKCS8(der); err != nil {
		return nil, nil, err
	}
	switch family(spec) {
	case "SECP256K1":
		return parseSecp256k1(der)
	case "SM2":
		return parseSM2(der)
	case "ML_KEM":
		return parseMLKEM(spec, der)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, errors.New("not PKCS #8 of this kind") // the parser's words may quote the key
	}
	var impl any
	switch k := key.(type) {
	case *rsa.PrivateKey:
		impl, err = newRSA(spec, k)
	case *ecdsa.PrivateKey:
		impl, err = newNIST(spec, k)
	case ed25519.PrivateKey:
		impl, err = newEd25519(spec, k)
	case *mldsa.PrivateKey:
		impl, err = newMLDSA(spec, k)
	default:
		err = ErrSpec
	}
	if err != nil {
		return nil, nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
	if k, ok := impl.(nistPair); ok && err == nil {
		err = checkECPrivate(der, nistCurves[spec].id, public, (k.key.Params().BitSize+7)/8)
	}
	return impl, public, err
}

// Sound reports whether the private key of a stranger, who may have made it with
// intent, works: slowly. A generated one does.
func (p *Pair) Sound() bool {
	k, ok := p.impl.(rsaPair)
	return !ok || k.sound()
}

// Sign signs a message given in one of the forms.
func (p *Pair) Sign(algorithm, form string, message []byte) ([]byte, error) {
	if s, ok := p.impl.(signer); ok {
		return s.sign(algorithm, form, message)
	}
	return nil, ErrAlgorithm
}

// Verify checks a signature. ErrSignature: it is not one of the message.
func (p *Pair) Verify(algorithm, form string, message, signature []byte) error {
	if s, ok := p.impl.(signer); ok {
		return s.verify(algorithm, form, message, signature)
	}
	return ErrAlgorithm
}

// Encrypt encrypts with the public key.
func (p *Pair) Encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	if c, ok := p.impl.(crypter); ok {
		return c.encrypt(algorithm, plaintext)
	}
	return nil, ErrAlgorithm
}

// Decrypt decrypts with the private key. Every failure of a ciphertext is ErrOpen.
func (p *Pair) Decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	if c, ok := p.impl.(crypter); ok {
		return c.decrypt(algorithm, ciphertext)
	}
	return nil, ErrAlgorithm
}

// Agree derives the shared secret with a peer's SubjectPublicKeyInfo: the x
// coordinate, as long as the curve's field (NIST SP 800-56A Rev. 3, 5.7.1.2).
// ErrPeer: that is no public key on the same curve.
func (p *Pair) Agree(peer []byte) ([]byte, error) {
	if a, ok := p.impl.(agreer); ok {
		return a.agree(peer)
	}
	return nil, ErrAlgorithm
}

// Encapsulate draws a shared secret and encrypts it (FIPS 203).
func (p *Pair) Encapsulate() (shared, ciphertext []byte, err error) {
	if e, ok := p.impl.(encapsulator); ok {
		return e.encapsulate()
	}
	return nil, nil, ErrAlgorithm
}

// Decapsulate recovers the shared secret. ErrOpen: the ciphertext has the wrong
// length. Any other wrong ciphertext gives a secret that nobody else has.
func (p *Pair) Decapsulate(ciphertext []byte) ([]byte, error) {
	if e, ok := p.impl.(encapsulator); ok {
		return e.decapsulate(ciphertext)
	}
	return nil, ErrAlgorithm
}

// hashOf is the hash that an algorithm's name ends with; 0 if it names none.
func hashOf(algorithm string) crypto.Hash {
	at := strings.LastIndex(algorithm, "SHA_")
	if at < 0 {
		return 0
	}
	switch algorithm[at:] {
	case "SHA_1":
		return crypto.SHA1
	case "SHA_224":
		return crypto.SHA224
	case "SHA_256":
		return crypto.SHA256
	case "SHA_384":
		return crypto.SHA384
	case "SHA_512":
		return crypto.SHA512
	default:
		return 0
	}
}

// digest is what a hash-then-sign algorithm signs.
func digest(h crypto.Hash, form string, message []byte) ([]byte, error) {
	switch {
	case form == Raw:
		return sum(h.New(), message), nil
	case form != Digest:
		return nil, ErrForm
	case len(message) != h.Size():
		return nil, ErrDigest
	default:
		return message, nil
	}
}

func sum(h hash.Hash, message []byte) []byte {
	h.Write(message)
	return h.Sum(nil)
}

// CheckMessage refuses a message that an algorithm cannot sign in that form,
// without a key: ErrForm, ErrDigest, ErrAlgorithm.
func CheckMessage(algorithm, form string, message []byte) error {
	switch {
	case algorithm == edPure || algorithm == edPrehashed:
		_, _, err := edPair{}.prepare(algorithm, form, message)
		return err
	case algorithm == "ML_DSA_SHAKE_256":
		return checkMLDSA(algorithm, form, message)
	case algorithm == "SM2DSA":
		return checkSM2(form, message)
	}
	h := hashOf(algorithm)
	switch {
	case h == 0:
		return ErrAlgorithm
	case form == Raw:
		return nil
	}
	_, err := digest(h, form, message)
	return err
}
