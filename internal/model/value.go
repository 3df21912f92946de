package model

// Value is what an optional member holds, or the zero value when it is absent.
func Value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// Or is what an optional member holds, or the API's default when it is absent.
func Or[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
