package findings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

// statement is a good statement with something in place of a part of it.
func statement(part, with string) string {
	parts := map[string]string{"Effect": `"Allow"`, "Principal": `{"AWS":"arn:aws:iam::111122223333:role/app"}`, "Action": `"kms:Decrypt"`, "Resource": `"*"`}
	name, _, _ := strings.Cut(part, " ")
	switch {
	case with == "":
		delete(parts, name)
	case name != "":
		parts[name] = with
	}
	var out []string
	for _, name := range []string{"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition", "Extra"} {
		if parts[name] != "" {
			out = append(out, fmt.Sprintf("%q:%s", name, parts[name]))
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func condition(text string) string { return document(statement("Condition", text)) }

// cases has for each code a document that it is found in.
var cases = map[string]struct {
	kind policy.Kind
	text string
}{
	"JSON_SYNTAX_ERROR":                               {policy.Key, `{"Version":`},
	"DATA_TYPE_MISMATCH":                              {policy.Key, document(statement("Effect", "7"))},
	"INVALID_POLICY_ELEMENT":                          {policy.Key, document(statement("Extra", "7"))},
	"MISSING_VERSION":                                 {policy.Key, `{"Statement":` + statement("", "x") + `}`},
	"INVALID_VERSION":                                 {policy.Key, `{"Version":"2020-01-01","Statement":` + statement("", "x") + `}`},
	"MISSING_STATEMENT":                               {policy.Key, `{"Version":"2012-10-17"}`},
	"MISSING_EFFECT":                                  {policy.Key, document(statement("Effect", ""))},
	"INVALID_EFFECT":                                  {policy.Key, document(statement("Effect", `"allow"`))},
	"MISSING_ACTION":                                  {policy.Key, document(statement("Action", ""))},
	"MISSING_RESOURCE":                                {policy.Key, document(statement("Resource", ""))},
	"MISSING_PRINCIPAL":                               {policy.Key, document(statement("Principal", ""))},
	"UNSUPPORTED_PRINCIPAL":                           {policy.Identity, document(statement("", "x"))},
	"SCP_SYNTAX_ERROR_PRINCIPAL":                      {policy.SCP, document(statement("", "x"))},
	"RCP_SYNTAX_ERROR_PRINCIPAL":                      {policy.RCP, document(statement("", "x"))},
	"RCP_SYNTAX_ERROR_ALLOW":                          {policy.RCP, document(statement("Principal", `"*"`))},
	"RCP_SYNTAX_ERROR_ACTION":                         {policy.RCP, document(statement("Action", `"*"`))},
	"RCP_SYNTAX_ERROR_NOTACTION":                      {policy.RCP, document(strings.Replace(statement("", "x"), `"Action"`, `"NotAction"`, 1))},
	"UNSUPPORTED_ELEMENT_COMBINATION":                 {policy.Key, document(statement("NotAction", `"kms:Encrypt"`))},
	"EMPTY_SID_VALUE":                                 {policy.Key, document(statement("Sid", `""`))},
	"UNSUPPORTED_SID":                                 {policy.Identity, document(statement("Sid", `"a b"`))},
	"UNIQUE_SIDS_REQUIRED":                            {policy.Identity, document(statement("Sid", `"a"`), statement("Sid", `"a"`))},
	"UNIQUE_SIDS_RECOMMENDED":                         {policy.Key, document(statement("Sid", `"a"`), statement("Sid", `"a"`))},
	"INVALID_ACTION":                                  {policy.Key, document(statement("Action", `"kms:Decript"`))},
	"INVALID_SERVICE_IN_ACTION":                       {policy.Key, document(statement("Action", `"k ms:Decrypt"`))},
	"WILDCARD_IN_SERVICE_NAME":                        {policy.Key, document(statement("Action", `"k*:Decrypt"`))},
	"VARIABLE_UNSUPPORTED_IN_ELEMENT":                 {policy.Key, document(statement("Action", `"kms:${x}"`))},
	"EMPTY_ARRAY_ACTION":                              {policy.Key, document(statement("Action", `[]`))},
	"REDUNDANT_ACTION":                                {policy.Key, document(statement("Action", `["kms:Decrypt","kms:De*"]`))},
	"EMPTY_ARRAY_RESOURCE":                            {policy.Key, document(statement("Resource", `[]`))},
	"REDUNDANT_RESOURCE":                              {policy.Key, document(statement("Resource", `["*","*"]`))},
	"INVALID_ARN_PREFIX":                              {policy.Key, document(statement("Resource", `"alias/x"`))},
	"MISSING_ARN_FIELD":                               {policy.Key, document(statement("Resource", `"arn:aws:kms"`))},
	"INVALID_PARTITION":                               {policy.Key, document(statement("Resource", `"arn:aws-x:kms:us-east-1:111122223333:key/*"`))},
	"INVALID_ARN_SERVICE_CASE":                        {policy.Key, document(statement("Resource", `"arn:aws:KMS:us-east-1:111122223333:key/*"`))},
	"MISSING_ARN_REGION":                              {policy.Key, document(statement("Resource", `"arn:aws:kms::111122223333:key/*"`))},
	"INVALID_ARN_REGION":                              {policy.Key, document(statement("Resource", `"arn:aws:kms:mars:111122223333:key/*"`))},
	"MISSING_ARN_ACCOUNT":                             {policy.Key, document(statement("Resource", `"arn:aws:kms:us-east-1::key/*"`))},
	"INVALID_ARN_ACCOUNT":                             {policy.Key, document(statement("Resource", `"arn:aws:kms:us-east-1:1111:key/*"`))},
	"INVALID_ARN_RESOURCE":                            {policy.Key, document(statement("Resource", `"arn:aws:kms:us-east-1:111122223333:keys"`))},
	"INVALID_PRINCIPAL_FORMAT":                        {policy.Key, document(statement("Principal", `"111122223333"`))},
	"INVALID_PRINCIPAL_KEY":                           {policy.Key, document(statement("Principal", `{"User":"x"}`))},
	"EMPTY_OBJECT_PRINCIPAL":                          {policy.Key, document(statement("Principal", `{}`))},
	"EMPTY_ARRAY_PRINCIPAL":                           {policy.Key, document(statement("Principal", `{"AWS":[]}`))},
	"UNSUPPORTED_WILDCARD_IN_PRINCIPAL":               {policy.Key, document(statement("Principal", `{"AWS":"arn:aws:iam::111122223333:role/*"}`))},
	"INVALID_ROLE_REFERENCE":                          {policy.Key, document(statement("Principal", `{"AWS":"AROAABCDEFGHIJKLMNOPQ"}`))},
	"INVALID_USER_REFERENCE":                          {policy.Key, document(statement("Principal", `{"AWS":"AIDAABCDEFGHIJKLMNOPQ"}`))},
	"FEDERATED_PRINCIPAL_NOT_SUPPORTED":               {policy.Key, document(statement("Principal", `{"Federated":"accounts.google.com"}`))},
	"INVALID_SERVICE_PRINCIPAL_FORMAT":                {policy.Key, document(statement("Principal", `{"Service":"logs"}`))},
	"ALLOW_WITH_NOT_PRINCIPAL":                        {policy.Key, document(strings.Replace(statement("", "x"), `"Principal"`, `"NotPrincipal"`, 1))},
	"RESTRICT_ACCESS_TO_SERVICE_PRINCIPAL":            {policy.Key, document(statement("Principal", `{"Service":"logs.amazonaws.com"}`))},
	"EMPTY_OBJECT_CONDITION":                          {policy.Key, condition(`{}`)},
	"INVALID_CONDITION_OPERATOR":                      {policy.Key, condition(`{"StringIs":{"aws:SourceAccount":"111122223333"}}`)},
	"NULL_WITH_IF_EXISTS":                             {policy.Key, condition(`{"NullIfExists":{"aws:SourceVpce":"true"}}`)},
	"NULL_WITH_QUALIFIER":                             {policy.Key, condition(`{"ForAnyValue:Null":{"aws:TagKeys":"true"}}`)},
	"INVALID_CONDITION_KEY_FORMAT":                    {policy.Key, condition(`{"StringEquals":{"SourceVpce":"x"}}`)},
	"INVALID_GLOBAL_CONDITION_KEY":                    {policy.Key, condition(`{"StringEquals":{"aws:PrincipalOrg":"o-x"}}`)},
	"INVALID_SERVICE_CONDITION_KEY":                   {policy.Key, condition(`{"StringEquals":{"kms:Foo":"x"}}`)},
	"UNSUPPORTED_GLOBAL_CONDITION_KEY":                {policy.Key, condition(`{"ArnEquals":{"aws:ARN":"arn:aws:iam::111122223333:role/x"}}`)},
	"DUPLICATE_KEYS_WITH_DIFFERENT_CASE":              {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":"x","aws:principaltag/a":"y"}}`)},
	"INVALID_CONDITION_DATA_TYPE":                     {policy.Key, condition(`{"NumericEquals":{"aws:MultiFactorAuthAge":["1",2]}}`)},
	"INVALID_CONDITION_MULTIPLE_BOOLEAN":              {policy.Key, condition(`{"Bool":{"aws:SecureTransport":["true","false"]}}`)},
	"MISSING_QUALIFIER":                               {policy.Key, condition(`{"StringEquals":{"kms:EncryptionContextKeys":"app"}}`)},
	"FORALLVALUES_WITH_SINGLE_VALUED_KEY":             {policy.Key, condition(`{"ForAllValues:StringEquals":{"aws:SourceVpce":"vpce-12345678"}}`)},
	"MISSING_TAG_KEY_IN_CONDITION":                    {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag":"x"}}`)},
	"TYPE_MISMATCH":                                   {policy.Key, condition(`{"NumericEquals":{"aws:SourceVpce":"1"}}`)},
	"TYPE_MISMATCH_NUMBER":                            {policy.Key, condition(`{"NumericEquals":{"aws:MultiFactorAuthAge":"x"}}`)},
	"TYPE_MISMATCH_DATE":                              {policy.Key, condition(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`)},
	"INVALID_DATE_VALUE":                              {policy.Key, condition(`{"DateLessThan":{"aws:CurrentTime":"1767268800"}}`)},
	"TYPE_MISMATCH_BOOLEAN":                           {policy.Key, condition(`{"Bool":{"aws:SecureTransport":"yes"}}`)},
	"TYPE_MISMATCH_STRING":                            {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":7}}`)},
	"TYPE_MISMATCH_IP_RANGE":                          {policy.Key, condition(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}`)},
	"IMPROVE_IP_RANGE":                                {policy.Key, condition(`{"IpAddress":{"aws:SourceIp":"203.0.113.9/24"}}`)},
	"PRIVATE_IP_ADDRESS":                              {policy.Key, condition(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)},
	"PRIVATE_NOT_IP_ADDRESS":                          {policy.Key, condition(`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)},
	"PRIVATE_IP_ADDRESS_SUBSET":                       {policy.Key, condition(`{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}}`)},
	"PRIVATE_NOT_IP_ADDRESS_SUBSET":                   {policy.Key, condition(`{"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}}`)},
	"WILDCARD_WITHOUT_LIKE_OPERATOR":                  {policy.Key, condition(`{"StringEquals":{"kms:KeySpec":"RSA_*"}}`)},
	"INVALID_VPC_FORMAT":                              {policy.Key, condition(`{"StringEquals":{"aws:SourceVpc":"vpc-x"}}`)},
	"INVALID_VPCE_FORMAT":                             {policy.Key, condition(`{"StringEquals":{"aws:SourceVpce":"vpce-x"}}`)},
	"INVALID_REGION":                                  {policy.Key, condition(`{"StringEquals":{"aws:RequestedRegion":"mars"}}`)},
	"INVALID_VARIABLE_FOR_OPERATOR":                   {policy.Key, condition(`{"NumericEquals":{"aws:MultiFactorAuthAge":"${aws:username}"}}`)},
	"MISSING_BRACE_IN_VARIABLE":                       {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":"${aws:username"}}`)},
	"MISSING_QUOTE_IN_VARIABLE":                       {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":"${aws:username, 'x}"}}`)},
	"UNSUPPORTED_SPACE_IN_VARIABLE":                   {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":"${aws: username}"}}`)},
	"EMPTY_VARIABLE":                                  {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":"${}"}}`)},
	"VARIABLE_UNSUPPORTED_IN_VERSION":                 {policy.Key, strings.Replace(condition(`{"StringEquals":{"aws:PrincipalTag/a":"${aws:username}"}}`), "2012-10-17", "2008-10-17", 1)},
	"VARIABLE_USAGE_TOO_PERMISSIVE":                   {policy.Key, condition(`{"StringEquals":{"aws:PrincipalOrgID":"${aws:PrincipalTag/o}"}}`)},
	"WILDCARD_USAGE_TOO_PERMISSIVE":                   {policy.Key, condition(`{"StringLike":{"aws:PrincipalOrgID":"o-*"}}`)},
	"UNTRUSTWORTHY_CONDITION_KEY":                     {policy.Key, condition(`{"StringEquals":{"aws:Referer":"x"}}`)},
	"UNSUPPORTED_ACTION_FOR_CONDITION_KEY":            {policy.Key, condition(`{"StringEquals":{"kms:MacAlgorithm":"HMAC_SHA_256"}}`)},
	"UNSUPPORTED_CONDITION_KEY_FOR_SERVICE_PRINCIPAL": {policy.Key, document(strings.Replace(statement("Condition", `{"StringEquals":{"aws:PrincipalOrgID":"o-acme123456"}}`), `{"AWS":"arn:aws:iam::111122223333:role/app"}`, `{"Service":"logs.amazonaws.com"}`, 1))},
	"REDUNDANT_CONDITION_VALUE_NUM":                   {policy.Key, condition(`{"StringLike":{"aws:PrincipalTag/a":["x*","xy"]}}`)},
	"EMPTY_ARRAY_CONDITION":                           {policy.Key, condition(`{"StringEquals":{"aws:PrincipalTag/a":[]}}`)},
	"EMPTY_ARRAY_CONDITION_FORALLVALUES":              {policy.Key, condition(`{"ForAllValues:StringEquals":{"aws:TagKeys":[]}}`)},
	"EMPTY_ARRAY_CONDITION_FORANYVALUE":               {policy.Key, condition(`{"ForAnyValue:StringEquals":{"aws:TagKeys":[]}}`)},
	"EMPTY_ARRAY_CONDITION_IFEXISTS":                  {policy.Key, condition(`{"StringEqualsIfExists":{"aws:PrincipalTag/a":[]}}`)},
	"POLICY_SIZE_EXCEEDS_IDENTITY_POLICY_QUOTA":       {policy.Identity, document(statement("Principal", ""), statement("Sid", `"`+strings.Repeat("a", 7000)+`"`))},
	"POLICY_SIZE_EXCEEDS_RESOURCE_POLICY_QUOTA":       {policy.Key, document(statement("Sid", `"`+strings.Repeat("a", 33000)+`"`))},
	"POLICY_SIZE_EXCEEDS_SCP_QUOTA":                   {policy.SCP, document(statement("Sid", `"`+strings.Repeat("a", 7000)+`"`))},
	"POLICY_SIZE_EXCEEDS_RCP_QUOTA":                   {policy.RCP, document(statement("Sid", `"`+strings.Repeat("a", 7000)+`"`))},
	"INVALID_SERVICE":                                 {policy.Key, document(statement("Resource", `"arn:aws:k_ms:us-east-1:111122223333:key/*"`))},
	"MISSING_PAIRED_CONDITION_KEYS":                   {policy.Key, condition(`{"IpAddress":{"aws:VpcSourceIp":"10.0.0.0/8"}}`)},
	"REDUNDANT_STATEMENT":                             {policy.Key, document(statement("", "x"), statement("", "x"))},
}

// TestEveryCode: each code is found where it is to be.
func TestEveryCode(t *testing.T) {
	for _, code := range Codes() {
		c, ok := cases[code]
		if !ok {
			t.Errorf("%s is not tried", code)
			continue
		}
		found := Validate(c.text, c.kind)
		i := slices.IndexFunc(found, func(f Finding) bool { return f.Code == code })
		if i < 0 {
			t.Errorf("%s is not found in %.200s: %v", code, c.text, found)
			continue
		}
		if f := found[i]; f.Details == "" || f.End.Offset < f.Start.Offset || !strings.Contains(f.LearnMore(), strings.ReplaceAll(strings.ToLower(code), "_", "-")) {
			t.Errorf("%s: %+v", code, f)
		}
	}
}

// TestNothingFound: good policies have no findings.
func TestNothingFound(t *testing.T) {
	for _, text := range []string{
		document(statement("", "x")),
		condition(`{"StringEquals":{"kms:EncryptionContext:app":"web","kms:ViaService":"s3.us-east-1.amazonaws.com"},"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-acme123456/*"}}`),
		condition(`{"StringEquals":{"aws:PrincipalAccount":"${aws:ResourceAccount}","aws:PrincipalTag/team":["a","b"]},"Bool":{"aws:SecureTransport":true}}`),
		`{"Version":"2012-10-17","Id":"x","Statement":{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}}`,
	} {
		if found := Validate(text, policy.Key); len(found) > 0 {
			t.Errorf("%s: %v", text, found)
		}
	}
}

// TestPlaces: a finding says where it is.
func TestPlaces(t *testing.T) {
	text := "{\"Version\": \"2012-10-17\",\n \"Statement\": [{\"Effect\": \"Allow\", \"Principal\": \"*\",\n   \"Action\": [\"kms:Encrypt\", \"kms:Foo\"], \"Resource\": \"*\"}]}"
	found := Validate(text, policy.Key)
	if len(found) != 1 || found[0].Code != "INVALID_ACTION" || found[0].Start != (Position{3, 29, 108}) || len(found[0].Path) != 4 || *found[0].Path[3].Index != 1 {
		t.Errorf("found %+v", found)
	}
}

// FuzzValidate: whatever is checked, it is checked to its end.
func FuzzValidate(f *testing.F) {
	for _, c := range cases {
		if len(c.text) < 1000 {
			f.Add(c.text, uint8(c.kind))
		}
	}
	f.Fuzz(func(t *testing.T, text string, kind uint8) {
		for _, x := range Validate(text, policy.Kind(kind%5)) {
			if severities[x.Code] == "" || x.Start.Offset > x.End.Offset {
				t.Errorf("%+v", x)
			}
		}
	})
}
