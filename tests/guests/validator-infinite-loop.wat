;; Validator with an infinite loop in `validate`.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/validate@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/validate@0.1.0#validate") (param i32) (result i32)
    (loop $again (br $again))
    unreachable)
)
