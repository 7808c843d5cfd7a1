;; Validator whose reason for a rejection contains control characters.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/validate@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/validate@0.1.0#validate") (param i32) (result i32)
    (i32.const 64))
  (data (i32.const 72) "\01\00\00\00\80\00\00\00\0f\00\00\00")
  (data (i32.const 128) "a\nb\1b[2Jc\e2\80\aedefg")
)
