package kms

import (
	"time"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// stateColumns are the key states, in the order of the rows of keyStates.
// PendingReplicaDeletion shares PendingDeletion's column.
var stateColumns = []string{
	kmsapi.KeyStateEnabled, kmsapi.KeyStateDisabled, kmsapi.KeyStatePendingDeletion, kmsapi.KeyStatePendingImport,
	kmsapi.KeyStateUnavailable, kmsapi.KeyStateCreating, kmsapi.KeyStateUpdating,
}

// keyStates says what each operation answers in each key state (KMS Developer
// Guide, "Key states of AWS KMS keys"): "." proceeds, D is DisabledException, S
// KMSInvalidStateException, U UnsupportedOperationException, "-" cannot occur.
var keyStates = map[string]string{
	"CancelKeyDeletion":                   "SS.SSSS",
	"CreateAlias":                         "..S....",
	"CreateGrant":                         ".DSS.S.",
	"Decapsulate":                         ".DSS-S.",
	"Decrypt":                             ".DSSSS.",
	"DeleteAlias":                         ".......",
	"DeleteImportedKeyMaterial":           "....-SS",
	"DeriveSharedSecret":                  ".DSS-S.",
	"DescribeKey":                         ".......",
	"DisableKey":                          "..SS.SS",
	"DisableKeyRotation":                  ".DSUUS.",
	"EnableKey":                           "..SS.SS",
	"EnableKeyRotation":                   ".DSUUS.",
	"Encapsulate":                         ".DSS-S.",
	"Encrypt":                             ".DSSSS.",
	"GenerateDataKey":                     ".DSSSS.",
	"GenerateDataKeyPair":                 ".DSSUS.",
	"GenerateDataKeyPairWithoutPlaintext": ".DSSUS.",
	"GenerateDataKeyWithoutPlaintext":     ".DSSSS.",
	"GenerateMac":                         ".DSS-S.",
	"GetKeyLastUsage":                     ".......",
	"GetKeyPolicy":                        ".......",
	"GetKeyRotationStatus":                "...UU..",
	"GetParametersForImport":              "..S.USS",
	"GetPublicKey":                        "..S.-S.",
	"ImportKeyMaterial":                   "..S.US.",
	"ListAliases":                         ".......",
	"ListGrants":                          ".......",
	"ListKeyPolicies":                     ".......",
	"ListKeyRotations":                    "....U..",
	"ListResourceTags":                    ".......",
	"PutKeyPolicy":                        ".......",
	"ReEncrypt":                           ".DSSSS.",
	"ReplicateKey":                        ".DSS-SS",
	"RetireGrant":                         ".......",
	"RevokeGrant":                         ".......",
	"RotateKeyOnDemand":                   ".DSSUS.",
	"ScheduleKeyDeletion":                 "..S...S",
	"Sign":                                ".DSS-S.",
	"TagResource":                         "..S....",
	"UntagResource":                       "..S....",
	"UpdateAlias":                         "..S....",
	"UpdateKeyDescription":                "..S....",
	"UpdatePrimaryRegion":                 ".DSS-S.",
	"Verify":                              ".DSS-S.",
	"VerifyMac":                           ".DSS-S.",
}

// stateTexts say in an error what a state is called.
var stateTexts = map[string]string{
	kmsapi.KeyStateEnabled:                "enabled",
	kmsapi.KeyStateDisabled:               "disabled",
	kmsapi.KeyStatePendingDeletion:        "pending deletion",
	kmsapi.KeyStatePendingReplicaDeletion: "pending replica deletion",
	kmsapi.KeyStatePendingImport:          "pending import",
	kmsapi.KeyStateUnavailable:            "unavailable",
	kmsapi.KeyStateCreating:               "creating",
	kmsapi.KeyStateUpdating:               "updating",
}

// admits returns the fault with which the key's state refuses an operation.
// What the table does not know is refused.
func (k *Key) admits(tx *store.Tx, now time.Time, operation string) error {
	state, err := k.state(tx, now)
	if err != nil {
		return err
	}
	column := state
	if state == kmsapi.KeyStatePendingReplicaDeletion {
		column = kmsapi.KeyStatePendingDeletion
	}
	row, answer := keyStates[operation], byte('S')
	for i, s := range stateColumns {
		if s == column && i < len(row) {
			answer = row[i]
		}
	}
	if answer == '.' {
		return nil
	}
	text := k.ARN() + " is " + stateTexts[state] + "."
	switch {
	case answer == 'D':
		return kmsapi.DisabledException(text)
	case answer == 'U':
		return kmsapi.UnsupportedOperationException("")
	case operation == "CancelKeyDeletion":
		return kmsapi.KMSInvalidStateException(k.ARN() + " is not pending deletion.")
	default:
		return kmsapi.KMSInvalidStateException(text)
	}
}

// validation is a service-side ValidationException.
func validation(text string) *model.Fault { return model.NewFault("ValidationException", 400, text) }
