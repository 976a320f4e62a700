import @Name@
import SwiftUI

/// Runs the model once, on zeros, and shows what comes out: put your data where the inputs are.
struct ContentView: View {
    @State private var text = "Running ..."

    var body: some View {
        Text(text)
            .padding()
            .task { text = await Task.detached { Self.look() }.value }
    }

    private nonisolated static func look() -> String {
        do {
            let predictor = try Predictor()
            let began = Date()
            let outputs = try predictor.run(@arguments@)
            let milliseconds = Date().timeIntervalSince(began) * 1000
            return "@name@ ran in \(milliseconds) ms\n\(outputs)"
        } catch {
            return String(describing: error)
        }
    }
}
