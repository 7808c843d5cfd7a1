;; Tries to grow its memory above its own declared maximum, which must fail. Its value is `x`.
(module
  (memory (export "memory") 2 4)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func $must_fail (param $pages i32)
    (if (i32.ne (memory.grow (local.get $pages)) (i32.const -1)) (then (unreachable))))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $must_fail (i32.const 3))
    (call $must_fail (i32.const 65536))
    (call $must_fail (i32.const -1))
    ;; Growing to the maximum works; one more page fails.
    (if (i32.ne (memory.grow (i32.const 2)) (i32.const 2)) (then (unreachable)))
    (call $must_fail (i32.const 1))
    (i32.const 64))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\01\00\00\00")
  (data (i32.const 128) "x")
)
