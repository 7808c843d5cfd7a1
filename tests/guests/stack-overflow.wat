;; Infinite recursion with minimal stack frames.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $deeper (i64.const 0))
    (i32.const 64))
  (func $deeper (param i64)
    (call $deeper (i64.add (local.get 0) (i64.const 1))))
)
