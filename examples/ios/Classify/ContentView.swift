import Model
import PhotosUI
import SwiftUI

struct ContentView: View {
    @State private var chosen: PhotosPickerItem?
    @State private var photo: CGImage?
    @State private var classes: [Classification] = []
    @State private var problem: String?
    @State private var classifier = PhotoClassifier()

    var body: some View {
        NavigationStack {
            List {
                if let photo {
                    Image(decorative: photo, scale: 1)
                        .resizable()
                        .scaledToFit()
                }
                ForEach(classes, id: \.index) { found in
                    LabeledContent(found.label) {
                        Text(found.probability, format: .percent.precision(.fractionLength(1)))
                    }
                }
                if let problem {
                    Text(problem).foregroundStyle(.red)
                }
            }
            .navigationTitle("What is it?")
            .toolbar {
                PhotosPicker("Choose a photo", selection: $chosen, matching: .images)
            }
            .task(id: chosen) {
                await look()
            }
        }
    }

    /// Classifies the photo that was chosen; another choice in the meantime cancels it.
    @MainActor private func look() async {
        guard let chosen else { return }
        do {
            guard let data = try await chosen.loadTransferable(type: Data.self) else { return }
            let seen = try await classifier.classify(photo: data)
            guard !Task.isCancelled else { return }
            (photo, classes, problem) = (seen.picture, seen.classes, nil)
        } catch {
            if !Task.isCancelled { (photo, classes, problem) = (nil, [], String(describing: error)) }
        }
    }
}
