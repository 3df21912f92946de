package policy

// A condition is one operator with one key, ready to evaluate.
type condition struct {
	op       operator
	known    bool // the operator exists
	key      ConditionKey
	operands []operand
	source   *Condition
}

func compileCondition(c *Condition, variables bool) condition {
	op, known := parseOperator(c.Operator)
	out := condition{op: op, known: known, key: KeyNamed(c.Key), source: c}
	for _, item := range c.Values.Items {
		out.operands = append(out.operands, newOperand(op.family, item.Text, variables && op.family.takesVariables()))
	}
	return out
}

// holds evaluates the condition: AUTH-8.1 to 8.9.
func (c *condition) holds(ctx Context) bool {
	if !c.known {
		return false // AUTH-8.5
	}
	v := ctx.Lookup(c.key)
	if c.op.family == null {
		return c.null(v)
	}
	if !v.Present {
		return c.absent()
	}
	switch c.op.prefix {
	case forAllValues:
		return c.all(v, ctx)
	case forAnyValue:
		return c.any(v, ctx)
	default:
		return !v.Multi && c.test(v.Text, ctx) // AUTH-8.7
	}
}

// null compares the key's absence with the operands; an empty value is as good
// as none (AUTH-8.4).
func (c *condition) null(v Value) bool {
	empty := !v.Present || !v.Multi && v.Text == "" || v.Multi && len(v.List) == 0
	for i := range c.operands {
		if o := &c.operands[i]; o.valid && o.truth == empty {
			return true
		}
	}
	return false
}

// absent is the outcome for a key the request does not have (AUTH-8.3).
func (c *condition) absent() bool {
	switch {
	case c.op.ifExists || c.op.prefix == forAllValues:
		return true
	case c.op.prefix == forAnyValue:
		return false
	default:
		return c.op.negated
	}
}

func (c *condition) all(v Value, ctx Context) bool {
	if !v.Multi {
		return v.Text == "" || len(c.operands) > 0 && c.test(v.Text, ctx)
	}
	for _, text := range v.List {
		if len(c.operands) == 0 || !c.test(text, ctx) {
			return false
		}
	}
	return true
}

func (c *condition) any(v Value, ctx Context) bool {
	if !v.Multi {
		return c.test(v.Text, ctx)
	}
	for _, text := range v.List {
		if c.test(text, ctx) {
			return true
		}
	}
	return false
}

// test compares one value with all operands: any of them for a positive
// operator, none of them for a negated one (AUTH-8.1).
func (c *condition) test(text string, ctx Context) bool {
	for i := range c.operands {
		matches, valid := c.operands[i].match(c.op.family, text, ctx)
		if c.op.negated && (matches || !valid) {
			return false
		}
		if !c.op.negated && matches && valid {
			return true
		}
	}
	return c.op.negated
}
