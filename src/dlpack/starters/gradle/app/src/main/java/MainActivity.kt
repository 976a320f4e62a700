package com.example.app

import android.app.Activity
import android.os.Bundle
import android.widget.TextView
import dlpack.@package@.Predictor

/** Runs the model once, on zeros, and shows what comes out: put your data where the inputs are. */
class MainActivity : Activity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        val view = TextView(this)
        setContentView(view)
        Thread {
            val text = try {
                look()
            } catch (e: Exception) {
                e.toString()
            }
            runOnUiThread { view.text = text }
        }.start()
    }

//@ if asset
    private fun look(): String = Predictor(assets).use { predictor ->
//@ else
    private fun look(): String = Predictor().use { predictor ->
//@ end
        val began = System.nanoTime()
        val outputs = predictor.run(@arguments@)
        val milliseconds = (System.nanoTime() - began) / 1e6
        "@name@ ran in $milliseconds ms\n" + listOf(
            @outputs@
        ).joinToString("\n")
    }
}
