// A PKCS#11 library that is SoftHSM, but for what the environment says:
//
//	ODD_HSM_FAIL=C_Login:160   that function returns that value
//	ODD_HSM_NONCE=own          encryption takes a nonce of zeros alone and draws one
//	ODD_HSM_NONCE=none         the same, but it stays zeros
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "pkcs11go.h"

static CK_FUNCTION_LIST_PTR real;
static CK_FUNCTION_LIST odd;

static CK_RV fails(const char *function) {
	const char *fail = getenv("ODD_HSM_FAIL");
	size_t n = strlen(function);
	return fail && !strncmp(fail, function, n) && fail[n] == ':' ? strtoul(fail + n + 1, NULL, 0) : CKR_OK;
}

#define ODD(function, parameters, arguments) \
	static CK_RV odd_##function parameters { \
		CK_RV rv = fails(#function); \
		return rv ? rv : real->function arguments; \
	}

ODD(C_Initialize, (CK_VOID_PTR a), (a))
ODD(C_GetSlotList, (CK_BBOOL p, CK_SLOT_ID_PTR l, CK_ULONG_PTR n), (p, l, n))
ODD(C_GetTokenInfo, (CK_SLOT_ID s, CK_TOKEN_INFO_PTR i), (s, i))
ODD(C_Login, (CK_SESSION_HANDLE s, CK_USER_TYPE u, CK_UTF8CHAR_PTR p, CK_ULONG n), (s, u, p, n))
ODD(C_FindObjectsInit, (CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR t, CK_ULONG n), (s, t, n))
ODD(C_FindObjects, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE_PTR o, CK_ULONG m, CK_ULONG_PTR n), (s, o, m, n))
ODD(C_GetAttributeValue, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_PTR t, CK_ULONG n), (s, o, t, n))
ODD(C_GenerateKey, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR k), (s, m, t, n, k))
ODD(C_Encrypt, (CK_SESSION_HANDLE s, CK_BYTE_PTR d, CK_ULONG n, CK_BYTE_PTR e, CK_ULONG_PTR m), (s, d, n, e, m))
ODD(C_DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE k), (s, m, k))
ODD(C_Decrypt, (CK_SESSION_HANDLE s, CK_BYTE_PTR e, CK_ULONG n, CK_BYTE_PTR d, CK_ULONG_PTR m), (s, e, n, d, m))

// "write C_OpenSession" is a session that may write.
static CK_RV odd_C_OpenSession(CK_SLOT_ID s, CK_FLAGS f, CK_VOID_PTR a, CK_NOTIFY n, CK_SESSION_HANDLE_PTR h) {
	CK_RV rv = fails(f & CKF_RW_SESSION ? "write C_OpenSession" : "C_OpenSession");
	return rv ? rv : real->C_OpenSession(s, f, a, n, h);
}

static CK_RV odd_C_EncryptInit(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE k) {
	const char *nonce = getenv("ODD_HSM_NONCE");
	CK_GCM_PARAMS_PTR gcm = m->pParameter;
	CK_RV rv = fails("C_EncryptInit");
	if (rv)
		return rv;
	if (nonce) {
		for (CK_ULONG i = 0; i < gcm->ulIvLen; i++)
			if (gcm->pIv[i])
				return CKR_MECHANISM_PARAM_INVALID;
		if (!strcmp(nonce, "own"))
			real->C_GenerateRandom(s, gcm->pIv, gcm->ulIvLen);
	}
	return real->C_EncryptInit(s, m, k);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
	CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(dlopen(SOFTHSM, RTLD_NOW), "C_GetFunctionList");
	CK_RV rv = get(&real);
	odd = *real;
	odd.C_Initialize = odd_C_Initialize;
	odd.C_GetSlotList = odd_C_GetSlotList;
	odd.C_GetTokenInfo = odd_C_GetTokenInfo;
	odd.C_OpenSession = odd_C_OpenSession;
	odd.C_Login = odd_C_Login;
	odd.C_FindObjectsInit = odd_C_FindObjectsInit;
	odd.C_FindObjects = odd_C_FindObjects;
	odd.C_GetAttributeValue = odd_C_GetAttributeValue;
	odd.C_GenerateKey = odd_C_GenerateKey;
	odd.C_EncryptInit = odd_C_EncryptInit;
	odd.C_Encrypt = odd_C_Encrypt;
	odd.C_DecryptInit = odd_C_DecryptInit;
	odd.C_Decrypt = odd_C_Decrypt;
	*list = &odd;
	return rv;
}
