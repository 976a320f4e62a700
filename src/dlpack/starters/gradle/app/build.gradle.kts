plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "com.example.app"
    compileSdk = 35

    defaultConfig {
        applicationId = "com.example.app"
        minSdk = 21
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }

    buildTypes {
        release {
            isMinifyEnabled = true // R8; the AAR brings the rules that it needs
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }

//@ if asset
    androidResources {
        noCompress += "weights" // so that they are mapped, not unpacked into memory
    }

//@ end
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    kotlinOptions {
        jvmTarget = "17"
    }
}

dependencies {
    implementation("dlpack:@name@:@version@")
}
