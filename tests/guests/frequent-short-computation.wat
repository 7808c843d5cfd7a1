;; Event flood whose calls each compute for less than the resolution of the CPU limit.
(module
  (memory (export "memory") 2)
  (func $compute
    (local $left i32)
    (local.set $left (i32.const 100000))
    (loop $again
      (i32.store (i32.const 4096) (i32.mul (local.get $left) (i32.load (i32.const 4096))))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $compute)
    (i32.const 64))
  (func (export "reloader:plugin/watch@0.1.0#arm") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/watch@0.1.0#next") (result i32)
    (call $compute)
    (i32.const 192))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\01\00\00\00")
  (data (i32.const 128) "x")
  ;; `dirty`
  (data (i32.const 200) "\01")
)
