package seal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// sealedTemplate is what the secret becomes in the TPM: data that never leaves
// it but under policy. There is no password (UserWithAuth is clear), and so
// nothing to guess and to be locked out of (NoDA).
func sealedTemplate(policy tpm2.TPM2BDigest) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgKeyedHash,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
		AuthPolicy:       policy,
	}
}

// pcrPolicy asks the TPM for the policy that its PCRs have the values they have.
func pcrPolicy(t transport.TPM, pcrs []int) (tpm2.TPM2BDigest, error) {
	trial, closeTrial, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return tpm2.TPM2BDigest{}, tpmError("start a session with the TPM", err)
	}
	defer func() { _ = closeTrial() }() // nothing depends on it any more
	if _, err := (tpm2.PolicyPCR{PolicySession: trial.Handle(), Pcrs: selection(pcrs)}).Execute(t); err != nil {
		return tpm2.TPM2BDigest{}, tpmError("read the TPM's PCRs", err)
	}
	policy, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(t)
	if err != nil {
		return tpm2.TPM2BDigest{}, tpmError("read the TPM's PCRs", err)
	}
	return policy.PolicyDigest, nil
}

// hasBank refuses PCRs that the TPM does not keep with SHA-256: it would leave
// them out of the policy without a word.
func hasBank(t transport.TPM, pcrs []int) error {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(t)
	if err != nil {
		return tpmError("ask the TPM for its PCRs", err)
	}
	banks, err := answer.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return tpmError("ask the TPM for its PCRs", err)
	}
	i := slices.IndexFunc(banks.PCRSelections, func(b tpm2.TPMSPCRSelection) bool { return b.Hash == tpm2.TPMAlgSHA256 })
	var kept []byte
	if i >= 0 {
		kept = banks.PCRSelections[i].PCRSelect
	}
	missing := slices.DeleteFunc(slices.Clone(pcrs), func(pcr int) bool { return pcr/8 < len(kept) && kept[pcr/8]>>(pcr%8)&1 == 1 })
	if len(missing) > 0 {
		return fmt.Errorf("seal: this TPM keeps no SHA-256 values of PCRs %s; turn its SHA-256 bank on in the firmware's settings", list(missing))
	}
	return nil
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask(pcrs)}}}
}

// mask has the bit of each PCR set, in the order of TPMS_PCR_SELECTION.
func mask(pcrs []int) []byte {
	m := make([]byte, 3)
	for _, pcr := range pcrs {
		m[pcr/8] |= 1 << (pcr % 8)
	}
	return m
}

// unmask is the PCRs of mask, ascending.
func unmask(m []byte) []int {
	var pcrs []int
	for pcr := range 8 * len(m) {
		if m[pcr/8]>>(pcr%8)&1 == 1 {
			pcrs = append(pcrs, pcr)
		}
	}
	return pcrs
}

func list(pcrs []int) string {
	names := make([]string, len(pcrs))
	for i, pcr := range pcrs {
		names[i] = strconv.Itoa(pcr)
	}
	return strings.Join(names, ", ")
}
