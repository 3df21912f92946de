package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// managedServices are the services with an AWS managed key, by the name in its
// alias alias/aws/….
var managedServices = []string{
	"acm", "backup", "cloud9", "codecommit", "connect", "dms", "dynamodb", "ebs", "elasticfilesystem", "es", "fsx", "glue", "kinesis",
	"kinesisvideo", "lambda", "lightsail", "neptune", "rds", "redshift", "s3", "secretsmanager", "ses", "sns", "sqs", "ssm", "workspaces", "xray",
}

// An unmadeKey is the AWS managed key that an alias stands for and that was not
// asked for before.
type unmadeKey struct{ service string }

func (u *unmadeKey) Error() string {
	return "kms: the key of alias/aws/" + u.service + " is not made yet"
}

// managedService is the service of an alias of an AWS managed key; "" for others.
func managedService(alias string) string {
	name, ok := strings.CutPrefix(alias, "alias/aws/")
	if !ok || !slices.Contains(managedServices, name) {
		return ""
	}
	return name
}

// managedPolicy is the key policy of an AWS managed key: use through its service
// by everybody in the account, and looking at it (policy-document.md §7.3).
func managedPolicy(k *Key, service string) string {
	return `{"Version":"2012-10-17","Id":"auto-` + service + `-1","Statement":[` +
		`{"Sid":"Allow access through ` + service + ` for all principals in the account that are authorized to use ` + service + `","Effect":"Allow","Principal":{"AWS":"*"},` +
		`"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:CreateGrant","kms:DescribeKey"],"Resource":"*",` +
		`"Condition":{"StringEquals":{"kms:CallerAccount":"` + k.Account + `","kms:ViaService":"` + service + "." + k.Region + `.amazonaws.com"}}},` +
		`{"Sid":"Allow direct access to key metadata to the account","Effect":"Allow","Principal":{"AWS":"` + arn.Root(arn.Partition(k.Region), k.Account) + `"},` +
		`"Action":["kms:Describe*","kms:Get*","kms:List*","kms:RevokeGrant"],"Resource":"*"}]}`
}

// makeManaged makes an AWS managed key and its alias, as the service's own doing.
func (s *Service) makeManaged(ctx context.Context, call *iam.Call, u *unmadeKey) error {
	k := &Key{
		ID: uuid.New().String(), Account: call.Account(), Region: call.Region, State: kmsapi.KeyStateEnabled, Spec: symmetricDefault, Usage: encryptDecrypt,
		Origin: kmsapi.OriginTypeAwsKms, Manager: kmsapi.KeyManagerTypeAws, Created: call.Now,
		Description: "Default key that protects my " + u.service + " data when no other key is defined",
		Rotation:    Rotation{Enabled: true, Days: rotationDays},
	}
	k.Policy = managedPolicy(k, u.service)
	secret, err := s.generateMaterial(ctx, k.Spec)
	if err != nil {
		return err
	}
	defer clear(secret)
	if k.MaterialID, err = k.materialID(secret); err != nil {
		return err
	}
	k.Materials = []MaterialInfo{{ID: k.MaterialID, State: current}}
	name := "alias/aws/" + u.service
	entry := s.serviceEvent("CreateKey", k.Region, k.Account, k.ID, call.Now)
	err = iam.Change(ctx, s.db, entry, func(tx *store.Tx) error {
		at := aliasKey(k.Region, k.Account, name)
		if _, err := store.Get(tx, aliasKind, at); !errors.Is(err, store.ErrNotFound) {
			return err // somebody else was quicker
		}
		k.Aliases = []string{name}
		if err := k.schedule(tx, call.Now.Add(rotationDays*day)); err != nil {
			return err
		}
		if err := putMaterial(tx, k, k.MaterialID, secret); err != nil {
			return err
		}
		if err := store.Put(tx, aliasKind, at, &Alias{name, k.ID, call.Now, call.Now}); err != nil {
			return err
		}
		return putKey(tx, k)
	})
	if !entry.Intended() {
		return err
	}
	return errors.Join(err, entry.End())
}
