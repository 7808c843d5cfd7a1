;; Returns a value with a stated length of 4 GiB in a memory of 128 KiB.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (i32.const 64))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\ff\ff\ff\ff")
)
